"""`archcalc explain`."""

from typing import Annotated

import typer

from archcalc import units
from archcalc.cli.options import OneTarget
from archcalc.cli.output import AsciiOption, FileOption, Format, Output, deliver, format_of
from archcalc.explain import explanation, explanation_table
from archcalc.records import explanation_record


def explain(
    target: OneTarget,
    layer: Annotated[str | None, typer.Argument(metavar="LAYER", help="One layer; all of them by default.")] = None,
    format: Annotated[
        Format | None, typer.Option(help="How to write it; by default as the file's name ends, or as plain text.")
    ] = None,
    file: FileOption = None,
    ascii: AsciiOption = False,
) -> None:
    """Show the calculation behind every number, in numbers and in letters, and the sums."""
    report = target.resolve().report()
    chosen = format_of(format, file)
    if chosen is None:
        text = explanation(report, layer)
        deliver(units.ascii(text) if ascii else text, file)
        return
    output = Output(asked=chosen, file=file, ascii=ascii)
    output.write(lambda: explanation_table(report, layer), lambda: explanation_record(report, layer))
