"""Which layers may overwrite their input without harm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from archcalc.graph import Node
from archcalc.layers import Input, Layer


def overwriting(nodes: Sequence[Node]) -> Iterator[str]:
    """Nodes that may overwrite their first input: its memory is not the caller's, and nobody else reads it later."""
    order = {node.name: index for index, node in enumerate(nodes)}
    last = order | {name: index for index, node in enumerate(nodes) for name in node.inputs}
    memory: dict[str, str] = {}  # of each value, the node that allocated it
    caller = {node.name for node in nodes if isinstance(node.layer, Input)}
    for index, node in enumerate(nodes):
        memory[node.name] = node.name
        if not node.inputs or not node.layer.in_place:
            continue
        held = memory[node.inputs[0]]
        read_later = any(memory[name] == held and last[name] > index for name in list(memory)[:index])
        read_twice = any(memory[name] == held for name in node.inputs[1:])
        safe = held not in caller and not read_later and not read_twice
        if _writes(node.layer) and safe:
            yield node.name
        if safe or not _writes(node.layer) or replace(node.layer, inplace=False).in_place:  # type: ignore[call-arg]
            memory[node.name] = held


def _writes(layer: Layer) -> bool:
    return bool(getattr(layer, "inplace", False))
