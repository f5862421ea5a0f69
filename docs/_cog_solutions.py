"""Cog blocks of the worked solutions: the published figures that a question is about."""

from __future__ import annotations

import re

import archcalc as ac
from archcalc.table import Table
from archcalc.verdicts import Judged, Published

__all__ = ["figures"]


def figures(pattern: str, *targets: str) -> None:
    """Published figures of families or entries beside ours, and the arithmetic of errata.

    Those are shown whose "network; quantity; source" matches. Raises RuntimeError where a target has none.
    """
    chosen: list[Judged] = []
    for target in targets:
        found = [
            one
            for one in ac.published(target).figures
            if re.search(pattern, f"{one.network}; {one.figure.quantity}; {one.figure.source}")
        ]
        if not found:
            raise RuntimeError(f"no published figure of {target} matches {pattern!r}")
        chosen += found
    whole = Published(tuple(chosen)).table()
    print(Table("", whole.columns, whole.rows, notes=whole.notes).to_markdown(), end="")
