"""`archcalc compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from archcalc.cli.options import ConventionOption, Targets
from archcalc.cli.output import Output
from archcalc.compare import comparison_record


def compare(
    targets: Targets,
    layers: Annotated[bool, typer.Option("--layers", help="Layer by layer, where costs differ.")] = False,
    convention: ConventionOption = "mac",
    *,
    output: Output,
) -> None:
    """Put networks side by side, with ratios and savings against the first."""
    reports = [target.report() for target in targets.resolve()]
    output.write(
        lambda: reports[0].compare(*reports[1:], layers=layers, convention=convention),
        lambda: comparison_record(reports, convention, by_layer=layers),
    )
