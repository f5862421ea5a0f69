"""How networks are rewritten: layers replaced, what reads them reading the last of what took their place."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from archcalc.analysis import Report, Row, analyze
from archcalc.errors import InputError, SpecError
from archcalc.extents import prod
from archcalc.graph import Network, Node
from archcalc.layers import BatchNorm1d, BatchNorm2d, BatchNorm3d, Layer, conv
from archcalc.layers.base import ints

BATCH_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d)
CONVOLUTIONS = (conv.Conv1d, conv.Conv2d, conv.Conv3d)
TRANSPOSED = (conv.ConvTranspose1d, conv.ConvTranspose2d, conv.ConvTranspose3d)

Change = Callable[[Row], Sequence[tuple[str, Layer]]]
"""Names and layers, one after the other, that take the place of a row; none where it stays."""


def changed(network: Network, name: str, change: Change, layers: str | None, what: str) -> Network:
    """The network with some rows replaced, and what reads them reading the last of what replaces them."""
    report = analyze(network)
    pattern = _pattern(layers)
    ends: dict[str, str] = {}
    nodes: list[Node] = []
    replaced: list[Row] = []
    for row in report:
        inputs = tuple(ends.get(source, source) for source in row.node.inputs)
        parts = change(row) if row.sources and pattern.search(row.name) else ()
        if not parts:
            nodes.append(replace(row.node, inputs=inputs))
            continue
        replaced.append(row)
        for part, layer in parts:
            inside = part.startswith(f"{row.name}.")
            nodes.append(Node(part, layer, inputs, (*row.node.blocks, row.name) if inside else row.node.blocks))
            inputs = (part,)
        ends[row.name] = parts[-1][0]
    if not replaced:
        among = f" among those that match {layers!r}" if layers else ""
        raise SpecError(f"{network.name}: {name} applies to no layer: there is not {what}{among}")
    unshared(report.rows, {row.name for row in replaced})
    outputs = tuple(ends.get(output, output) for output in network.outputs)
    suffix = f"{name}@{layers}" if layers else name
    return replace(network, name=f"{network.name}+{suffix}", nodes=tuple(nodes), outputs=outputs)


def chain(row: Row, between: Sequence[Layer], parts: Sequence[tuple[str, Any]]) -> list[tuple[str, Layer]]:
    """The parts in the row's place, between every two of them the layers `between`."""
    made: list[tuple[str, Layer]] = []
    for i, (part, layer) in enumerate(parts, start=1):
        made.append((f"{row.name}.{part}", layer))
        if i < len(parts):
            names = ("bn" if isinstance(one, BATCH_NORMS) else one.kind.lower() for one in between)
            made += [(f"{row.name}.{name}{i}", one) for name, one in zip(names, between, strict=True)]
    return made


def followers_of(network: Network) -> Callable[[Row], Sequence[Layer]]:
    """For a row the batch norm and the activation that follow it, where nothing else reads it."""
    readers = readers_of(network)

    def followers(row: Row) -> Sequence[Layer]:
        found: list[Layer] = []
        name = row.name
        for wanted in (_is_batch_norm, _is_activation):
            if len(readers[name]) == 1 and wanted(readers[name][0].layer):
                found.append(readers[name][0].layer)
                name = readers[name][0].name
        return found

    return followers


def _is_batch_norm(layer: Layer) -> bool:
    return isinstance(layer, BATCH_NORMS)


def _is_activation(layer: Layer) -> bool:
    return type(layer).__module__ == "archcalc.layers.activation" and layer.kind != "GLU"


def readers_of(network: Network) -> dict[str, list[Node]]:
    """For each node those that read it."""
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in network:
        for name in node.inputs:
            readers[name].append(node)
    return readers


def spatial(layer: Any) -> bool:
    """Whether the layer is a convolution of more than one place on all channels at once."""
    return isinstance(layer, CONVOLUTIONS) and prod(ints(layer.kernel_size)) > 1 and layer.groups == 1


def classifiers(report: Report) -> set[str]:
    """The last layer with weights before each output, where there is one such layer."""
    read = {name for row in report for name in row.node.inputs}
    kept: set[str] = set()
    for output in {*report.network.outputs, *(row.name for row in report if row.name not in read)}:
        found, seen, waiting = set(), {output}, [output]
        while waiting:
            row = report[waiting.pop()]
            if row.weights:
                found.add(row.name)
                continue
            waiting += set(row.node.inputs) - seen
            seen.update(row.node.inputs)
        if len(found) == 1:
            kept |= found
    return kept


def unshared(rows: Sequence[Row], names: set[str] | None = None) -> None:
    """Raise SpecError where a layer that would change shares parameters with another."""
    for row in rows:
        for held in row.node.held:
            if held.counted_by and (names is None or names & {row.name, held.counted_by}):
                raise SpecError(f"{row.name} shares its {held.name} with {held.counted_by}; it cannot be rewritten")


def _pattern(layers: str | None) -> re.Pattern[str]:
    try:
        return re.compile(layers or "")
    except re.error as error:
        raise InputError(f"{layers!r} is not a regular expression: {error}") from None
