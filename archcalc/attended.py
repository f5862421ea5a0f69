"""Attended: traced operations that are one call of scaled_dot_product_attention, of which PyTorch keeps less fused.

A trace has the steps of the call, so that each is counted. While training on the CPU they are one kernel: it keeps
queries, keys, values, the mask, its output and of each query the logarithm of its softmax's sum; its output lies in
memory as the queries do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from archcalc.extents import prod
from archcalc.layers import Softmax
from archcalc.layers.operation import MatMul, Permute

if TYPE_CHECKING:
    from archcalc.analysis import Report, Row

FUSED = "functional.scaled_dot_product_attention"

_VIEWS = {"view", "_unsafe_view", "expand"}
_MOVES = _VIEWS | {"clone"}
_CAST = {"_to_copy"}
_GIVEN = _MOVES | {"unsqueeze"}
_ADDED = {"add", "Add"}


@dataclass(frozen=True, slots=True)
class Attended:
    """One call: the rows of its products and of its softmax; where it is fused those that it reads.

    `output` is the row that puts out what the kernel does, and `copy` one that copies it into an order in which it lies
    already. `dropout` is the probability with which the call drops out while training; PyTorch does not fuse it then.
    """

    scores: Row
    softmax: Row
    sums: Row
    dropout: float = 0.0
    read: tuple[Row, ...] = ()
    output: Row | None = None
    copy: Row | None = None

    @property
    def fused(self) -> bool:
        """Whether it is one kernel."""
        return bool(self.read)

    @property
    def logarithms(self) -> int:
        """Elements: one for each head and query."""
        return int(prod(self.softmax.output[:-1]))

    @property
    def dropped(self) -> int:
        """Elements of the softmax's mask, one number where all drops out, and of what is left of it."""
        pairs = int(prod(self.softmax.output))
        return pairs + (1 if self.dropout == 1 else pairs)


def attended(report: Report, known: Collection[str]) -> Iterator[Attended]:
    """Calls of attention in a traced network; `known` are the layers whose output has a gradient.

    PyTorch fuses scaled_dot_product_attention of heads of one width, without dropout, whose mask is not trained.
    """
    readers: dict[str, list[Row]] = {}
    for row in report:
        for source in row.sources:
            readers.setdefault(source.name, []).append(row)
    orders: dict[str, tuple[int, ...]] = {}
    for row in report:
        call = _call(row)
        if call is not None:
            yield _fused(call, known, readers, orders) if is_fusible(row) and not call.dropout else call


def is_fusible(row: Row) -> bool:
    """Whether it is a product within scaled_dot_product_attention."""
    return isinstance(row.node.layer, MatMul) and FUSED in _functions(row)


def _call(sums: Row) -> Attended | None:
    origin = sums.node.origin
    if origin is None or not isinstance(sums.node.layer, MatMul) or "attention" not in "".join(_functions(sums)):
        return None
    softmax = _back(sums.sources[-2], _VIEWS)
    if not isinstance(softmax.node.layer, Softmax):
        return None
    scores = _back(softmax.sources[0], _VIEWS | _ADDED)
    return Attended(scores, softmax, sums, origin.dropout) if isinstance(scores.node.layer, MatMul) else None


def _fused(
    call: Attended, known: Collection[str], readers: dict[str, list[Row]], orders: dict[str, tuple[int, ...]]
) -> Attended:
    """The call with what the kernel reads, if PyTorch fuses it."""
    queries, keys = (_back(row, _MOVES) for row in call.scores.sources[-2:])
    values = _back(call.sums.sources[-1], _MOVES - {"expand"})
    if (queries.kind, keys.kind, keys.sources[0].kind, values.kind) != ("mul", "mul", "transpose", "expand"):
        return call
    read = tuple(_outside(row, orders) for row in (queries.sources[0], keys.sources[0].sources[0], values.sources[0]))
    added = _back(call.softmax.sources[0], _VIEWS)
    masks = tuple(added.sources[1:]) if added.kind in _ADDED else ()
    masks = tuple(mask for mask in (_back(mask, _CAST) for mask in masks) if not _is_causal(mask))
    if len({row.output[-1] for row in read}) > 1 or any(mask.name in known for mask in masks):
        return call
    assert queries.node.origin is not None
    output = _output(call.sums, readers)
    order = orders[output.name] = orders.get(read[0].name, queries.node.origin.order)
    return replace(call, read=(*read, *masks), output=output, copy=_copy(output, order, readers))


def _back(row: Row, kinds: set[str]) -> Row:
    """The row before all rows of these kinds."""
    while row.kind in kinds:
        row = row.sources[0]
    return row


def _outside(row: Row, outputs: Collection[str]) -> Row:
    """What a call is given, before it casts it, adds an axis or repeats heads; it may be the output of another."""
    while row.name not in outputs and (_is_cast(row) or (row.kind in _GIVEN and FUSED in _functions(row))):
        row = row.sources[0]
    return row


def _output(sums: Row, readers: dict[str, list[Row]]) -> Row:
    """What the steps cast their sums back to, or these."""
    row = sums
    while len(readers.get(row.name, ())) == 1:
        (row,) = readers[row.name]
        if _is_cast(row):
            return row
        if row.kind not in _VIEWS:
            break
    return sums


def _is_cast(row: Row) -> bool:
    """Whether attention casts between its steps: those of 16-bit numbers are computed in float32, the kernel is not."""
    return row.kind in _CAST and "attention" in "".join(_functions(row))


def _functions(row: Row) -> tuple[str, ...]:
    return () if row.node.origin is None else row.node.origin.functions


def _is_causal(mask: Row) -> bool:
    """Whether attention makes the mask itself, and the kernel none."""
    whole = _back(mask, {"where"})
    return whole.kind == "tril" and "attention" in "".join(_functions(whole)[:1])


def _copy(whole: Row, order: tuple[int, ...], readers: dict[str, list[Row]]) -> Row | None:
    """The row that copies the output into an order of axes in which it lies already."""
    row, axes = whole, list(range(len(order)))
    while len(readers.get(row.name, ())) == 1:
        row = readers[row.name][0]
        if isinstance(row.node.layer, Permute):
            axes = [axes[dim] for dim in row.node.layer.dims]
        elif row.kind == "clone":
            long = [axis for axis, extent in zip(axes, row.output, strict=False) if extent != 1]
            return row if long == [axis for axis in order if axis in long] else None
        elif row.kind != "_unsafe_view" or row.sources[0] is not whole:
            return None
    return None
