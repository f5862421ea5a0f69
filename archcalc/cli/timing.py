"""`archcalc time`."""

from dataclasses import replace
from itertools import product
from typing import Annotated

import typer

from archcalc.cli.options import DeviceOption, Targets
from archcalc.cli.output import Format, Output, progress
from archcalc.targets import torch_part


def timing(
    targets: Targets,
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(metavar="NAME", help="float32, float16, bfloat16 or float64.")] = "float32",
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Channels-last memory format.")] = False,
    threads: Annotated[int | None, typer.Option(metavar="N", help="CPU threads; PyTorch's own choice.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Time per layer, beside its MACs.")] = False,
    seconds: Annotated[float, typer.Option(metavar="S", help="Least time to measure each network.")] = 1.0,
    *,
    output: Output,
) -> None:
    """Time real forward passes: median, interquartile range, images/s, achieved GMAC/s."""
    chosen = targets.resolve()
    devices = torch_part("devices").resolve(device)
    stopwatch = torch_part("stopwatch")
    results = []
    with progress() as advance:
        for target, place in product(chosen, devices):
            advance(f"{target.network.name} on {place}")
            result = stopwatch.time_network(
                target,
                device=place,
                dtype=dtype,
                channels_last=channels_last,
                threads=threads,
                layers=layers,
                seconds=seconds,
            )
            results.append(result)
    tables = [lambda: stopwatch.summary(results), *([result.layer_table for result in results] if layers else [])]
    if output.file is not None and output.format is Format.table:
        output = replace(output, format=Format.json)
    output.write_all(tables, [result.to_dict for result in results])
