"""`archcalc show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from archcalc.cli.options import ConventionOption, OneTarget
from archcalc.cli.output import Format, Output
from archcalc.columns import names
from archcalc.records import report_record

if TYPE_CHECKING:
    from archcalc.table import Table


def show(
    target: OneTarget,
    columns: Annotated[
        str | None, typer.Option(metavar="NAME,...", help=f"Columns, of these: {', '.join(names())}.")
    ] = None,
    layers: Annotated[str | None, typer.Option(metavar="REGEX", help="Only layers whose names match.")] = None,
    depth: Annotated[int | None, typer.Option(metavar="N", help="Fold rows by block, N levels deep.")] = None,
    working: Annotated[bool, typer.Option("--working", help="Fill the cells with their arithmetic.")] = False,
    all_rows: Annotated[bool, typer.Option("--all", help="Show also layers that are 0 in every column.")] = False,
    convention: ConventionOption = "mac",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if an operation is uncounted.")] = False,
    *,
    output: Output,
) -> None:
    """Show what every layer costs: activations, parameters, multiply-accumulates."""
    report = target.resolve().report()

    def table() -> Table:
        chosen = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
        return report.table(
            chosen,
            working=working,
            layers=layers,
            depth=depth,
            convention=convention,
            all_rows=all_rows or output.format is Format.csv,
        )

    output.write(table, lambda: report_record(report, convention, layers))
    if strict and report.uncounted:
        raise typer.Exit(1)
