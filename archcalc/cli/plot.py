"""`archcalc plot`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from archcalc import plots
from archcalc.analysis import Report
from archcalc.cli.options import ConventionOption, Targets
from archcalc.cli.output import deliver, deliver_bytes
from archcalc.errors import InputError
from archcalc.plots.numbers import QUANTITIES


def plot(
    targets: Targets,
    quantities: Annotated[
        str | None, typer.Option(metavar="NAME,...", help=f"A panel for each, of these: {', '.join(QUANTITIES)}.")
    ] = None,
    layers: Annotated[str | None, typer.Option(metavar="REGEX", help="Only layers whose names match.")] = None,
    depth: Annotated[int | None, typer.Option(metavar="N", help="Fold layers by block, N levels deep.")] = None,
    all_rows: Annotated[bool, typer.Option("--all", help="A bar for every layer, 0 or not.")] = False,
    bubbles: Annotated[
        bool, typer.Option("--bubbles", help="A bubble for each network: right, up and area by three quantities.")
    ] = False,
    time: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Times to draw too, from `archcalc time NET --layers --output FILE`."),
    ] = None,
    convention: ConventionOption = "mac",
    *,
    file: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", readable=False, help="Where to draw: FILE.png, FILE.svg or FILE.pdf."),
    ] = None,
) -> None:
    """Draw bars by layer, the totals of several networks, or bubbles; TARGET zoo is every network of the zoo."""
    if file is None and sys.stdout.isatty():
        raise InputError("a plot is drawn into a file: give one, such as --output plot.svg (or .png, .pdf)")
    format = "svg" if file is None else plots.format_of(file)
    chosen = None if quantities is None else [name.strip() for name in quantities.split(",") if name.strip()]
    whole_zoo = targets.targets == ["zoo"]
    reports = _zoo(targets) if whole_zoo else [target.report() for target in targets.resolve()]
    if bubbles or whole_zoo:
        if layers is not None or depth is not None or all_rows:
            raise InputError("bubbles are of whole networks; --layers, --depth and --all are for bars")
        figure = plots.bubbles(*reports, quantities=chosen, convention=convention, times=time)
    else:
        figure = plots.plot(
            *reports,
            quantities=chosen,
            layers=layers,
            depth=depth,
            convention=convention,
            all_rows=all_rows,
            times=time,
        )
    content = plots.rendered(figure, format)
    if file is None:
        deliver(content.decode(), None)
    else:
        deliver_bytes(content, file)


def _zoo(targets: Targets) -> list[Report]:
    """What the networks of the zoo cost. Raises InputError for choices and inputs, which are each network's own."""
    if targets.settings or targets.inputs:
        raise InputError("the networks of the zoo are drawn on their own inputs, with their own choices")
    names = [network.name for network in plots.zoo_networks()]
    return [target.report() for target in replace(targets, targets=names).resolve()]
