"""`archcalc forecast`."""

from __future__ import annotations

from typing import Annotated

import typer

from archcalc.cli.options import DeviceOption, OneTarget
from archcalc.cli.output import Output, progress
from archcalc.cli.roofline import DtypeOption, SecondsOption, ThreadsOption
from archcalc.targets import torch_part


def forecast(
    target: OneTarget,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    seconds: SecondsOption = 1.0,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the machine's ceilings and calibration again.")
    ] = False,
    compare: Annotated[bool, typer.Option(" /--no-measure", help="Predict only, and do not run the network.")] = True,
    model: Annotated[bool, typer.Option("--model", help="Also the factors of the model and their errors.")] = False,
    *,
    output: Output,
) -> None:
    """Predict the time of every layer and of a pass from counts and the machine's ceilings, beside the measured one."""
    chosen = target.resolve()
    devices = torch_part("devices").resolve(device)
    part = torch_part("forecast")
    results = []
    with progress(ticking=False) as advance:
        for i, place in enumerate(devices):
            result = part.forecast(
                chosen,
                device=place,
                dtype=dtype,
                threads=threads,
                again=measure,
                compare=compare,
                seconds=seconds,
                progress=torch_part("timing").Part(advance, i, len(devices)),
            )
            results.append(result)
    tables = [table for one in results for table in ((one.table, one.model.table) if model else (one.table,))]
    output.write_all(tables, [result.to_dict for result in results])
