"""Rules of operations that compute nothing: views, parts, copies, new tensors."""

from __future__ import annotations

from archcalc.errors import SpecError
from archcalc.layers import Concat, Flatten, Layer
from archcalc.layers.operation import (
    Expand,
    Pad,
    Part,
    Permute,
    Recorded,
    Reshape,
    Select,
    Slice,
    Stack,
    regrouped,
)
from archcalc.pytorch.operations.calls import Call, inplace_view, operation, unknown


@operation("cat")
def _cat(call: Call) -> Layer:
    dim = call.argument(1, "dim", 0)
    full = [i for i, shape in enumerate(call.given) if shape != (0,)]  # torch joins tensors of no elements with any
    if len(full) == 1:
        return Recorded("cat", (), tuple(call.output.shape), copied=full[0])
    return Concat(dim) if len(full) == len(call.given) else _moved(call)


@operation("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze")
def _view(call: Call) -> Layer:
    before, after = tuple(call.given[0]), tuple(call.output.shape)
    if 0 in before or 0 in after:
        return _moved(call)
    try:
        groups = regrouped(before, after)
    except SpecError:
        return Recorded(call.name, call.given, after, view=True)
    if len(before) > 2 and len(after) == 2 and groups == (((0,), after[:1]), (tuple(range(1, len(before))), after[1:])):
        return Flatten()
    return Reshape(call.name, groups)


@operation("permute", "transpose", "t")
def _permute(call: Call) -> Layer:
    rank = len(call.given[0])
    dims = list(range(rank))
    if call.name == "permute":
        dims = [dim % rank for dim in call.args[1]]
    elif call.name == "transpose":
        a, b = (dim % rank for dim in call.args[1:3])
        dims[a], dims[b] = b, a
    else:
        dims.reverse()
    return Permute(call.name, tuple(dims))


_ALIKE = (
    *("clone", "copy", "_to_copy", "roll", "flip", "fill", "zero", "triu", "tril", "index_fill", "index_copy"),
    *("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "scatter", "masked_scatter"),
    *("bernoulli", "native_dropout", "normal", "uniform"),
)
"""Operations that put out what has the shape of their first input, and compute nothing."""


@operation(*_ALIKE)
def _alike(call: Call) -> Layer:
    """The output has the shape of the first input."""
    return Recorded(call.name, (), tuple(call.output.shape), inplace_view(call), copied=0)


@operation("slice")
def _slice(call: Call) -> Layer:
    size = call.given[0][call.argument(1, "dim", 0)]
    start, stop = call.argument(2, "start") or 0, call.argument(3, "end")
    return Slice(
        "slice",
        call.argument(1, "dim", 0),
        start if start >= -size else 0,
        None if stop is None or stop > size else stop,
        call.argument(4, "step", 1),
    )


@operation("select", "unbind")
def _select(call: Call) -> Layer:
    return Select(call.name, call.argument(1, "dim", 0))


PARTS = {"split", "split_with_sizes", "unsafe_split", "unbind"}
"""Operations whose every output is a part of the input."""


@operation("split", "split_with_sizes", "unsafe_split")
def _part(call: Call) -> Layer:
    pairs = zip(call.given[0], call.output.shape, strict=True)
    return Part(call.name, tuple(None if before == after else after for before, after in pairs))


@operation("constant_pad_nd")
def _pad(call: Call) -> Layer:
    pairs = zip(call.given[0], call.output.shape, strict=True)
    return Pad(call.name, tuple(after - before for before, after in pairs))


@operation("expand")
def _expand(call: Call) -> Layer:
    """Axes that keep their size keep the input's; what an axis of one is stretched to is baked in."""
    after = tuple(call.output.shape)
    before = (None,) * (len(after) - len(call.given[0])) + call.given[0]
    return Expand("expand", tuple(None if x == y else y for x, y in zip(before, after, strict=True)))


@operation("stack")
def _stack(call: Call) -> Layer:
    return Stack("stack", call.argument(1, "dim", 0) % call.output.ndim)


@operation("index_put", "_unsafe_index_put")
def _index_put(call: Call) -> Layer:
    return unknown(call) if call.argument(3, "accumulate", False) else _alike(call)


_MOVES = (
    *("embedding", "index", "gather", "take", "repeat", "index_select", "masked_select", "unfold", "im2col"),
    *("as_strided", "diagonal", "rot90", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "resize", "set"),
    *("_pack_padded_sequence", "view_as_real", "view_as_complex", "complex", "_local_scalar_dense"),
    *("arange", "linspace", "eye", "scalar_tensor", "zeros", "ones", "empty", "full", "empty_strided"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided"),
    *("rand", "randn", "randint", "randperm"),
)
"""Operations that move or make data, and compute nothing."""


@operation(*_MOVES)
def _moved(call: Call) -> Layer:
    """Data that only moves, as it was seen."""
    return Recorded(call.name, call.given, tuple(call.output.shape), inplace_view(call))
