"""`archcalc memory`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from archcalc.cli.options import DeviceOption, OneTarget
from archcalc.cli.output import Format, Output, progress
from archcalc.footprint import STATES, WIDTHS, Memory, parse_bytes
from archcalc.footprint import memory as account
from archcalc.targets import Target, torch_part


def memory(
    target: OneTarget,
    dtype: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Numbers: {', '.join(WIDTHS)}; by default the network's own.")
    ] = None,
    optimizer: Annotated[
        str, typer.Option(metavar="NAME", help=f"What trains: {', '.join(STATES)}; none is inference alone.")
    ] = "sgd",
    fits: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Say the largest batch that this much holds, such as 16GiB.")
    ] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Only the parts of the total, no layers.")] = False,
    all_rows: Annotated[bool, typer.Option("--all", help="Show also layers that write and keep nothing.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run it too, and say what PyTorch's allocator holds and why it differs.")
    ] = False,
    device: DeviceOption = "auto",
    *,
    output: Output,
) -> None:
    """Say what a network holds in memory: parameters, activations, what backward keeps, the optimizer's state."""
    room = None if fits is None else parse_bytes(fits)
    chosen = target.resolve()
    held = account(chosen.report(), dtype=dtype, optimizer=optimizer)
    if chosen.make is not None:
        chosen, held = _traced(chosen, held)
    measured = _measured(chosen, held, device) if measure else []
    tables = [
        lambda: held.table(all_rows=all_rows or output.format is Format.csv),
        lambda: held.summary(room),
    ]
    tables = tables[1:] if summary else tables
    if measured:
        tables.append(lambda: torch_part("allocated").measured_table(measured))
    if output.format in (Format.csv, Format.json):  # one table a file
        record = {"measured": [one.to_dict() for one in measured]} if measured else {}
        output.write(tables[-1 if measured else 0], lambda: held.to_dict(room) | record)
    else:
        output.write_all(tables, [])


def _traced(target: Target, held: Memory) -> tuple[Target, Memory]:
    """A module traced in the type that it is to have; its account, for which it is traced again at other batches."""
    wanted = "float32" if held.dtype == "mixed" else held.dtype
    if wanted != target.network.dtype:
        target = target.again(dtype=wanted)
        held = account(target.report(), dtype=held.dtype, optimizer=held.optimizer)
    return target, replace(held, again=lambda batch: target.again(batch=batch).report())


def _measured(target: Target, held: Memory, device: str) -> list[Any]:
    """What is measured on each of the devices."""
    devices = torch_part("devices").resolve(device)
    allocated = torch_part("allocated")
    results = []
    with progress() as advance:
        for place in devices:
            advance(f"{held.report.network.name} on {place}")
            results.append(allocated.measure(target, held, device=place))
    return results
