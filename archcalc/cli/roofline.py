"""`archcalc roofline`."""

from __future__ import annotations

from typing import Annotated

import typer

from archcalc import roofline as counted
from archcalc.cli.options import DeviceOption, OneTarget
from archcalc.cli.output import Output, deliver_bytes, progress
from archcalc.errors import InputError
from archcalc.targets import torch_part

DtypeOption = Annotated[str, typer.Option("--dtype", metavar="NAME", help=f"Numbers: {', '.join(counted.WIDTHS)}.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", metavar="N", help="CPU threads; PyTorch's own choice.")]
SecondsOption = Annotated[float, typer.Option("--seconds", metavar="S", help="Least time to measure the network.")]


def roofline(
    target: OneTarget,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    seconds: SecondsOption = 1.0,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the machine's ceilings again.")] = False,
    counts: Annotated[bool, typer.Option("--counts", help="Only MACs, bytes and their ratio; nothing is run.")] = False,
    *,
    output: Output,
) -> None:
    """Set layers under the roofline: intensity, what the machine allows, what it achieves; --output x.svg draws it."""
    chosen = target.resolve()
    drawing = output.file if output.file is not None and output.file.suffix.lower() in (".svg", ".png") else None
    if counts and drawing:
        raise InputError("--counts measures nothing that could be drawn")
    if counts:
        report = chosen.report()
        output.write(lambda: counted.intensity_table(report, dtype), lambda: counted.intensity_record(report, dtype))
        return
    devices = torch_part("devices").resolve(device)
    part = torch_part("roofline")
    if drawing:
        devices = devices[-1:]  # a drawing is of one device: of all, the accelerator
        part.require_matplotlib()
    results = []
    with progress(ticking=False) as advance:
        for i, place in enumerate(devices):
            result = part.roofline(
                chosen,
                device=place,
                dtype=dtype,
                threads=threads,
                again=measure,
                seconds=seconds,
                progress=torch_part("timing").Part(advance, i, len(devices)),
            )
            results.append(result)
    if drawing:
        deliver_bytes(part.drawn(results[0], drawing.suffix.lower().removeprefix(".")), drawing)
        return
    output.write_all([result.table for result in results], [result.to_dict for result in results])
