"""`archcalc receptive`."""

from __future__ import annotations

from typing import Annotated

import typer

from archcalc.cli.options import OneTarget
from archcalc.cli.output import Format, Output
from archcalc.errors import InputError
from archcalc.fields import receptive_record, receptive_table


def receptive(
    target: OneTarget,
    layers: Annotated[str | None, typer.Option(metavar="REGEX", help="Only layers whose names match.")] = None,
    position: Annotated[
        str | None, typer.Option(metavar="P,Q", help="Also the pixels that the output in row P, column Q sees.")
    ] = None,
    all_rows: Annotated[
        bool, typer.Option("--all", help="Show also layers that see what the layer before them sees.")
    ] = False,
    *,
    output: Output,
) -> None:
    """Show what every layer sees of the image: receptive field, jump, start, padding."""
    report = target.resolve().report()
    place = None if position is None else _position(position)
    output.write(
        lambda: receptive_table(report, layers, place, all_rows=all_rows or output.format is Format.csv),
        lambda: receptive_record(report, layers, place),
    )


def _position(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InputError(f"cannot read --position {text!r}: it must be whole numbers from 0 on, such as 3,4")
    return tuple(map(int, parts))
