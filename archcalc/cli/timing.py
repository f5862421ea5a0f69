"""`archcalc time`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from archcalc.cli.options import DeviceOption, Targets
from archcalc.cli.output import Format, Output, deliver_bytes, progress
from archcalc.errors import InputError
from archcalc.targets import torch_part

OPTIMIZERS = "sgd, momentum, adam or adamw"


def timing(
    targets: Targets,
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(metavar="NAME", help="float32, float16, bfloat16 or float64.")] = "float32",
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Channels-last memory format.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the module with torch.compile.")] = False,
    tf32: Annotated[
        bool | None, typer.Option("--tf32/--no-tf32", help="TF32 in float32 products on CUDA; PyTorch's own choice.")
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="CPU threads; PyTorch's own choice.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Time per layer, beside its MACs.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Time per layer beside torch.profiler's.")] = False,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write torch.profiler's Chrome trace of a pass.")
    ] = None,
    step: Annotated[bool, typer.Option("--step", help="Time a training step: forward, backward, optimizer.")] = False,
    optimizer: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Of the training step: {OPTIMIZERS}; sgd.")
    ] = None,
    seconds: Annotated[float, typer.Option(metavar="S", help="Least time to measure each network.")] = 1.0,
    *,
    output: Output,
) -> None:
    """Time real forward passes, or training steps: median, interquartile range, inputs/s, achieved GMAC/s."""
    profile = profile or trace is not None
    layers = layers or profile
    if step and layers:
        raise InputError("a training step is timed as a whole: leave out --step, or --layers, --profile and --trace")
    if optimizer and not step:
        raise InputError("--optimizer is of a training step: add --step")
    if trace is not None and trace == output.file:
        raise InputError(f"--trace and --output both write {trace}")
    chosen = targets.resolve()
    places = torch_part("devices").resolve(device)
    if trace is not None:
        if len(chosen) > 1:
            raise InputError("--trace is of one network: give one")
        places = places[-1:]  # of all devices, the accelerator
    made = torch_part("subject").Settings
    settings = [made(place, dtype, channels_last, threads, compiled, tf32) for place in places]
    for one in settings:
        one.check()
    if output.file is not None and output.asked is None and output.format is Format.table:
        output = replace(output, asked=Format.json)
    results: list[Any] = []
    with progress(ticking=False) as advance:
        for i, one in enumerate(settings):
            part = torch_part("timing").Part(advance, i, len(settings))
            if step:
                timed = torch_part("step").time_steps
                results += timed(chosen, one, optimizer=optimizer or "sgd", seconds=seconds, progress=part)
            else:
                timed = torch_part("stopwatch").time_networks
                results += timed(chosen, one, layers=layers, profiled=profile, seconds=seconds, progress=part)
    if trace is not None:
        deliver_bytes(results[0].profile.trace, trace)
    if step:
        tables = [lambda: torch_part("step").summary(results)]
    elif layers and output.format is Format.csv:
        tables = [lambda: torch_part("stopwatch").layers_csv(results)]
    else:
        tables = [lambda: torch_part("stopwatch").summary(results)]
        tables += [result.layer_table for result in results] if layers else []
    output.write_all(tables, [result.to_dict for result in results])
