"""`archcalc published`."""

from __future__ import annotations

from typing import Annotated

import typer

from archcalc import verdicts
from archcalc.cli.output import Format, Output


def published(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="A network of the zoo, or a family such as vgg; all by default."),
    ] = None,
    *,
    output: Output,
) -> None:
    """Set published figures beside ours: exact, rounded, or errata with their arithmetic; exit with 1 on any other.

    On a terminal a table for each network; in other formats one, each row with its network, convention and source.
    """
    judged = verdicts.published(target)
    if output.format is Format.table:
        output.write_all([lambda table=table: table for table in judged.by_network()], [])  # type: ignore[misc]
    else:
        output.write(judged.table, judged.record)
    if judged.unexplained:
        raise typer.Exit(1)
