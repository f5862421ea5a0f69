"""`archcalc memory`."""

from __future__ import annotations

from typing import Annotated

import typer

from archcalc.cli.options import OneTarget
from archcalc.cli.output import Format, Output
from archcalc.footprint import STATES, WIDTHS, parse_bytes
from archcalc.footprint import memory as account


def memory(
    target: OneTarget,
    dtype: Annotated[str, typer.Option(metavar="NAME", help=f"Numbers: {', '.join(WIDTHS)}.")] = "float32",
    optimizer: Annotated[
        str, typer.Option(metavar="NAME", help=f"What trains: {', '.join(STATES)}; none is inference alone.")
    ] = "sgd",
    fits: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Say the largest batch that this much holds, such as 16GiB.")
    ] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Only the parts of the total, no layers.")] = False,
    all_rows: Annotated[bool, typer.Option("--all", help="Show also layers that write and keep nothing.")] = False,
    *,
    output: Output,
) -> None:
    """Say what a network holds in memory: parameters, activations, what backward keeps, the optimizer's state."""
    room = None if fits is None else parse_bytes(fits)
    held = account(target.resolve().report(), dtype=dtype, optimizer=optimizer)
    tables = [
        lambda: held.table(all_rows=all_rows or output.format is Format.csv),
        lambda: held.summary(room),
    ]
    if output.format in (Format.csv, Format.json):  # one table a file
        output.write(tables[summary], lambda: held.to_dict(room))
    else:
        output.write_all(tables[1:] if summary else tables, [])
