"""`archcalc check`."""

from itertools import product

import typer

from archcalc.cli.options import DeviceOption, Targets
from archcalc.cli.output import Output, progress
from archcalc.targets import torch_part


def check(targets: Targets, device: DeviceOption = "auto", *, output: Output) -> None:
    """Check every number against real PyTorch modules and three other counters; exit with 1 on any difference."""
    chosen = targets.resolve()
    devices = torch_part("devices").resolve(device)
    crosscheck = torch_part("crosscheck")
    reports = []
    with progress() as advance:
        for target, place in product(chosen, devices):
            report = crosscheck.check(
                target.network,
                entry=target.entry,
                choices=target.choices,
                make=target.make,
                arguments=target.arguments,
                shape=target.shape,
                device=place,
                progress=advance,
            )
            reports.append(report)
    output.write_all([report.table for report in reports], [report.to_dict for report in reports])
    if not all(report.ok for report in reports):
        raise typer.Exit(1)
