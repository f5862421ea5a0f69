"""What is the same for tools that put their own functions in the place of torch's: which calls they see."""

from __future__ import annotations

from collections.abc import Callable, Collection

from archcalc.analysis import Row
from archcalc.conventions.base import Amount, Cause, functions, layer_of, stretched
from archcalc.extents import Extent, exact_div, prod
from archcalc.layers import Conv1d, Conv2d, Conv3d
from archcalc.layers.base import ints

ATTENTION = "functional.multi_head_attention_forward"
"""A function of torch that calls others by their names."""

FUSED_ATTENTION = "functional.scaled_dot_product_attention"
MATMUL = {"matmul", "Tensor.matmul"}


def looked_up(row: Row) -> str:
    """The innermost function that runs a row and can be replaced, "" where there is none.

    What a module has held since before it could be replaced is not found; `a @ b` is "Tensor.__matmul__".
    """
    origin, names = row.node.origin, functions(row)
    if origin is None or not names:
        return ""
    if len(names) > 1 or origin.called == "name":
        return names[-1]
    return f"Tensor.__{names[0].removeprefix('Tensor.')}__" if origin.called == "operator" else ""


def calls(row: Row, names: Collection[str]) -> bool:
    """Whether a function among these runs the row."""
    return looked_up(row) in names


def further_ways(amount: Amount) -> Amount:
    """An amount once more for each further way from the root to the module it belongs to."""
    return lambda row: amount(row) * (row.node.origin.ways - 1) if row.node.origin else 0


_CONVOLUTIONS = {f"conv{rank}d" for rank in (1, 2, 3)}
_TRANSPOSED = {f"conv_transpose{rank}d" for rank in (1, 2, 3)}
_LAYERS = {
    *("Linear", "TableConv2d", "MultiheadAttention"),
    *(f"{kind}{rank}d" for kind in ("Conv", "ConvTranspose") for rank in (1, 2, 3)),
}
"""Kinds whose modules call linear or a convolution."""


def _seen_by(names: Collection[str]) -> Callable[[Row], bool]:
    known = {"functional.linear", *_CONVOLUTIONS, *_TRANSPOSED, *names}
    return lambda row: calls(row, known) if functions(row) else row.kind in _LAYERS


def attention_products(row: Row) -> Extent:
    """MACs of queries with keys and of weights with values, where attention is one layer or scaled_dot_product."""
    if FUSED_ATTENTION in functions(row):
        return row.macs
    if row.kind != "MultiheadAttention":
        return 0
    pairs = (nest for nest in row.nests if "mac" in nest.ops and all(one.role != "weight" for one in nest.operands))
    return sum(nest.iterations for nest in pairs)


def uneven_padding(row: Row) -> Extent:
    """MACs of the outputs lost where padding="same" is computed with the smaller half on both sides, negative."""
    layer = layer_of(row)
    if functions(row) or not isinstance(layer, Conv1d | Conv2d | Conv3d) or layer.padding != "same":
        return 0
    if layer.padding_mode != "zeros":
        return 0
    spare = [gap * (size - 1) for gap, size in zip(ints(layer.dilation), ints(layer.kernel_size), strict=True)]
    places = [size - n % 2 for size, n in zip(row.output[2:], spare, strict=True)]
    return exact_div(row.macs, prod(row.output[2:])) * prod(places) - row.macs


def shared_causes(names: Collection[str]) -> tuple[Cause, ...]:
    """Causes of a tool that patches linear, the convolutions and functions of these names, which modules call too."""
    seen = _seen_by(names)
    attention = Cause(
        "fused attention not seen",
        lambda row: -attention_products(row),
        because="scaled_dot_product_attention is one function, which is not patched.",
        defect=True,
    )
    return (
        *(() if FUSED_ATTENTION in names else (attention,)),
        Cause(
            "einsum counted without multiply-adds",
            lambda row: -row.macs if looked_up(row) == "einsum" else 0,
            because="einsum is patched, but gives FLOPs only: its multiply-adds are 0.",
            defect=True,
        ),
        Cause(
            "functional call not seen",
            lambda row: -row.macs if _other(row) and not seen(row) else 0,
            because="Functions that are not patched, or that a module has held since before, are not counted.",
            defect=True,
        ),
        Cause(
            "layer not counted",
            lambda row: 0 if functions(row) or seen(row) else -row.macs,
            because="Recurrent layers are counted in FLOPs only, bilinear layers not at all.",
            defect=True,
        ),
        Cause(
            "matmul of stretched tensors",
            lambda row: stretched(row) if calls(row, {*MATMUL, "Tensor.__matmul__"}) and seen(row) else 0,
            because="The elements of the first are multiplied with the last size of the second, which is wrong where "
            "one is repeated for the other's batch or is a vector.",
            defect=True,
        ),
        Cause(
            'padding="same" of an even kernel',
            uneven_padding,
            because="The padding is taken to be equal on both sides; of an odd number the rest is lost, and with it "
            "an output on each axis.",
            defect=True,
        ),
    )


def _other(row: Row) -> bool:
    return bool(functions(row)) and looked_up(row) != "einsum" and FUSED_ATTENTION not in functions(row)
