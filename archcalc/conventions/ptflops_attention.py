"""What the hook of ptflops on attention says, and what the functions that it patches say once more."""

from __future__ import annotations

from archcalc.analysis import Row
from archcalc.conventions.base import functions, modules
from archcalc.conventions.patched import ATTENTION, looked_up
from archcalc.extents import Extent, exact_div, prod

_TIMM = "timm.layers.attention.Attention"


def attends(row: Row) -> bool:
    """Whether a row lies in a module that is hooked as a whole."""
    return functions(row)[:1] == (ATTENTION,) and modules(row)[-1] == "torch.nn.MultiheadAttention"


def _before(row: Row) -> Row | None:
    """The product that a row of attention was made from, None where it was made from an input."""
    return _product(row.sources[-2 if row.macs else 0], row)


def _product(source: Row, row: Row) -> Row | None:
    """The product of the same call of attention that `source` was made from, without further products between."""
    while _together(source, row) and not source.macs and source.sources:
        source = source.sources[0]
    return source if source.macs and _together(source, row) else None


def _together(one: Row, other: Row) -> bool:
    a, b = one.node.origin, other.node.origin
    return functions(one)[:1] == (ATTENTION,) and a is not None and b is not None and a.call == b.call


def _projection(row: Row) -> tuple[Extent, Extent, Extent]:
    """Tokens, features that go in and features that come out, of the projection that keys or values come from."""
    tokens, features = prod(row.inputs[-2][:-1]), row.inputs[-2][-1]
    return tokens, features, row.output[-1] if _own_weight(row) else features


def _own_weight(row: Row) -> bool:
    """Whether a projection has a weight of its own, for keys or for values."""
    return row.sources[-1].sources[0].name.rpartition(".")[2] in ("k_proj_weight", "v_proj_weight")


def other_sizes(row: Row) -> Extent:
    """What the hook on attention says beyond the rest where keys and values are not as large or many as it takes."""
    if not attends(row):
        return 0
    if not row.macs and row.kind != "Softmax":
        return 0
    before = _before(row)
    if row.kind == "Softmax":
        keys = _product(before.sources[-1], before) if before else None
        if before is None or keys is None:
            return 0
        tokens, _, whole = _projection(keys)
        return tokens * row.output[-2] * exact_div(whole, before.inputs[-1][-2]) - prod(row.output)
    if looked_up(row) == "functional.linear":
        return _other_width(row, before)
    other = _product(row.sources[-1], row)
    if before is None or other is None:
        return 0
    tokens, features, whole = _projection(other)
    if looked_up(before) != "functional.linear":  # weights by values: the heads' share of the values is rounded
        heads = exact_div(whole, row.output[-1])
        whole = features // heads * heads
    return tokens * row.output[-2] * whole - row.macs


def _other_width(row: Row, before: Row | None) -> Extent:
    """The same of a projection: its matrix is taken to be square, at the output as wide as the values."""
    tokens, width = prod(row.inputs[-2][:-1]), row.inputs[-2][-1]
    if before is None:
        return tokens * width * width - row.macs if _own_weight(row) else 0
    values = _product(before.sources[-1], before)
    features = _projection(values)[1] if values else width
    return tokens * (features * (features + 1) - width * (width + 1))


def softmax_and_biases(row: Row) -> Extent:
    """What a hook on attention counts beside the products: scaling, softmax, biases."""
    if not attends(row):
        return 0
    if row.kind == "Softmax":
        scores = _before(row)
        return prod(row.output) + (prod(scores.inputs[-2]) if scores else 0)
    if row.kind == "add":
        return prod(row.output) if len(row.inputs[-1]) == 1 else 0
    return prod(row.output) if looked_up(row) == "functional.linear" and row.kind == "addmm" else 0


def imagined_bias(row: Row) -> Extent:
    """Elements of attention's output, where it has no bias and is counted with one."""
    linear = attends(row) and row.kind in ("mm", "bmm") and looked_up(row) == "functional.linear"
    return prod(row.output) if linear and _before(row) else 0


def attention_again(row: Row) -> Extent:
    """What functions count once more inside attention: products, the mask added to them, softmax."""
    if functions(row)[:1] != (ATTENTION,):
        return 0
    scores = _before(row) if row.kind == "Softmax" else None
    softmax = prod(row.output) if scores and looked_up(scores) in ("bmm", "baddbmm") else 0
    products = row.macs if attends(row) and looked_up(row) in ("bmm", "baddbmm") else 0
    return softmax + products


def in_timm(row: Row) -> bool:
    """Whether a row lies in attention of timm, which is hooked as a whole where timm is installed."""
    return _TIMM in modules(row)


def timm_products(row: Row) -> Extent:
    """What the hook on timm's attention says of a row: products, 1 for each element of softmax and of queries."""
    if modules(row)[-1] != _TIMM or not functions(row):
        return 0
    if row.kind == "Softmax":
        return prod(row.output)
    source = row.sources[0] if row.macs else row
    while not source.macs and source.sources and source.kind != "Softmax":
        source = source.sources[0]
    return row.macs + (prod(row.output) if row.macs and source.kind == "Softmax" else 0)
