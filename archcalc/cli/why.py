"""`archcalc why`."""

from __future__ import annotations

from typing import Annotated

import typer

from archcalc.cli.options import OneTarget
from archcalc.cli.output import Output, progress
from archcalc.targets import torch_part


def why(
    target: OneTarget,
    tools: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COUNTER...]", help="Counters; all that are installed. Two are explained to each other."
        ),
    ] = None,
    *,
    output: Output,
) -> None:
    """Run other counters and explain each difference from our count to the last unit.

    Exit with 1 if a difference is left, or if no counter could count.
    """
    chosen = target.resolve()
    part = torch_part("why")
    with progress() as advance:
        found = part.why_target(chosen, tools, progress=advance)
    pair = tools is not None and len(tools) == 2 and all(one.counted for one in found.accounts)
    output.write(lambda: found.between(*tools) if pair else found.table(), found.to_dict)  # type: ignore[misc]
    if not found.ok:
        raise typer.Exit(1)
