"""Tables whose cells may hold Markdown, for cog blocks that make their own."""

from __future__ import annotations

from collections.abc import Iterable

from archcalc import units


def markdown(headers: Iterable[str], rows: Iterable[Iterable[object]], right: Iterable[str] = ()) -> None:
    """A table whose text cells may hold Markdown."""
    heads = list(headers)
    lines = [
        heads,
        ["--:" if head in set(right) else ":--" for head in heads],
        *([units.count(cell) if isinstance(cell, int) else str(cell) for cell in row] for row in rows),
    ]
    print("\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines))
