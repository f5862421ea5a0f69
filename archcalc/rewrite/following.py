"""What follows a layer: batch norms that were not there, other activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from archcalc.analysis import Row, analyze
from archcalc.errors import SpecError
from archcalc.graph import Network
from archcalc.layers import KINDS, Layer, Linear
from archcalc.names import unknown
from archcalc.rewrite.changes import BATCH_NORMS, CONVOLUTIONS, TRANSPOSED, changed, classifiers, readers_of

_GATES = ("Sigmoid", "Hardsigmoid")

_PLACES = ("convolutions", "all")


def batch_norm(network: Network, where: str = "convolutions", *, layers: str | None = None) -> Network:
    """A batch norm after each convolution that has none, which needs no bias then; =all: after each layer but the last.

    That is after fully connected layers too, and not after the last layer, which has one output for each class.
    """
    if where not in _PLACES:
        raise unknown("place for batch norms", where, _PLACES)
    everywhere = where == "all"
    kept = classifiers(analyze(network)) if everywhere else set()
    readers = readers_of(network)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        dense = everywhere and isinstance(layer, Linear) and len(row.output) == 2
        if not (dense or isinstance(layer, CONVOLUTIONS + TRANSPOSED)) or row.name in kept:
            return ()
        if any(isinstance(reader.layer, BATCH_NORMS) for reader in readers[row.name]):
            return ()
        norm = BATCH_NORMS[0 if dense else layer.rank - 1]()
        return (row.name, replace(layer, bias=False)), (f"{row.name}_bn", norm)

    name, what = ("batch-norm=all", "layer but the last") if everywhere else ("batch-norm", "convolution")
    return changed(network, name, change, layers, f"a {what} without a batch norm")


def activation(network: Network, kind: str, *, layers: str | None = None) -> Network:
    """KIND, such as GELU, instead of each activation; layers keep their names.

    Gates stay: sigmoids whose output is a factor, as in squeeze-and-excitation.
    """
    known = {name.lower(): cls for name, cls in KINDS.items() if cls.__module__ == "archcalc.layers.activation"}
    made = known.get(kind.lower())
    if made is None:
        raise unknown("activation", kind, [cls.__name__ for cls in known.values()])
    try:
        new = made()
    except TypeError:
        raise SpecError(f"{made.__name__} needs arguments; it cannot take another activation's place") from None
    readers = readers_of(network)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        gate = layer.kind in _GATES and any(reader.layer.kind.startswith("mul") for reader in readers[row.name])
        if type(layer) not in known.values() or layer.kind in ("GLU", new.kind) or gate:
            return ()
        in_place = {"inplace": layer.in_place} if hasattr(new, "inplace") else {}
        return ((row.name, replace(new, **in_place)),)

    return changed(network, f"activation={new.kind}", change, layers, f"an activation other than {new.kind}")
