"""Cog blocks about receptive fields: the closed form beside real stacks, and gradients beside both."""

from __future__ import annotations

from archcalc import analyze, zoo
from archcalc.fields import pixels, stack
from archcalc.graph import Network
from archcalc.layers import Conv2d
from archcalc.rewrite import width
from archcalc.table import Column, Table

__all__ = ["gradient_checks", "stacks"]


def stacks(*sizes: int, most: int = 10) -> None:
    """What stacks of convolutions see: the closed form in numbers, and what the network's own windows give."""
    rows = []
    for layers in range(1, most + 1):
        cells: list[object] = [layers]
        for size in sizes:
            closed = int(stack(layers, size))
            (height, _) = analyze(Network.sequential("stack", (1, 3, 99, 99), [Conv2d(8, size)] * layers)).rows[
                -1
            ].receptive_field or (None, None)
            cells += [f"{layers}·{size} − {layers} + 1 = {closed}", height]
        rows.append(tuple(cells))
    columns = [Column("N")]
    for size in sizes:
        columns += [Column(f"NF − N + 1, F = {size}"), Column("network")]
    print(Table("", tuple(columns), tuple(rows)).to_markdown(), end="")


def gradient_checks(*names: str) -> None:
    """For networks of the zoo, narrowed: outputs whose pixels were compared with those that have a gradient."""
    from archcalc.pytorch.gradients import Probe

    rows = []
    for name in names:
        network = width(zoo.ENTRIES[name].build(), 1 / 16)
        probe = Probe(network)
        known = pixels(probe.report)
        compared = equal = 0
        chosen = [row for row in probe.report if row.kind in ("Conv2d", "MaxPool2d", "Add", "Concat")]
        for row in chosen[:: max(1, len(chosen) // 8)]:
            P, Q = row.output[2:]
            for position in dict.fromkeys(((0, 0), (P // 2, Q // 3), (P - 1, Q - 1))):
                compared += 1
                equal += probe.pixels(row.name, position) == known[row.name].at(position)
        rows.append((name, "×".join(map(str, probe.report.input[1:])), compared, equal))
    headers = ("network", "input", "outputs compared", "equal")
    columns = tuple(Column(header, "left" if i == 0 else "right") for i, header in enumerate(headers))
    print(Table("", columns, tuple(rows)).to_markdown(), end="")
