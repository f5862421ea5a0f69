"""`archcalc published`."""

from __future__ import annotations

from typing import Annotated

import typer

from archcalc import verdicts
from archcalc.cli.output import Output


def published(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="A network of the zoo, or a family such as vgg; all by default."),
    ] = None,
    *,
    output: Output,
) -> None:
    """Set published figures beside ours: exact, rounded, or errata with their arithmetic; exit with 1 on any other."""
    judged = verdicts.published(target)
    output.write(judged.table, judged.record)
    if judged.unexplained:
        raise typer.Exit(1)
