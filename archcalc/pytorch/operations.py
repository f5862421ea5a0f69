"""Operations of torch by name, and the layer that states what each computes: what runs outside of known modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archcalc.errors import SpecError
from archcalc.layers import KINDS, Add, Concat, Flatten, Layer
from archcalc.layers.operation import (
    Bags,
    Baked,
    Elementwise,
    Expand,
    Functional,
    GroupedMatMul,
    MatMul,
    Pad,
    Part,
    Permute,
    Recorded,
    Reduce,
    Reshape,
    Scattered,
    Select,
    Slice,
    Stack,
    Unbatched,
    Uncounted,
    WeightNorm,
    regrouped,
)


class Call(NamedTuple):
    """One call of an operation: its name without namespace, overload and underscore, and what it works on.

    `given` are the shapes of the tensors that flow in, as they were before the call.
    """

    name: str
    inplace: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]
    given: tuple[tuple[int, ...], ...]
    output: Tensor

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)


Rule = Callable[[Call], Layer]

RULES: dict[str, Rule] = {}
"""The rule of every operation there is one for, by its name in torch.ops.aten (in-place ones without underscore)."""


def operation(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of operations: a function from the call to the layer that states its cost.

    Raises SpecError for an operation that has a rule, and for one that torch does not have.

    >>> @operation("my_library::swish")
    ... def swish(call):
    ...     return Elementwise("swish", (("mul", 1), ("exp", 1), ("add", 1), ("div", 1)))
    """

    def register(rule: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise SpecError(f"there is already a rule for the operation {name}")
            ours = rule.__module__ == __name__  # for any version of torch
            if not ours and "::" not in name and not _exists(name):
                near = next((f"; did you mean {one}?" for one in (f"_{name}", name.strip("_")) if _exists(one)), "")
                raise SpecError(f"there is no operation torch.ops.aten.{name}{near}")
            RULES[name] = rule
        return rule

    return register


def _exists(name: str) -> bool:
    """Whether calls can have this name: torch has the operation, which in place has an underscore more."""
    aten, inplace = torch.ops.aten, name.endswith("_") and not name.endswith("__")
    return not inplace and (hasattr(aten, name) or hasattr(aten, f"{name}_"))


def layer_of(call: Call) -> Layer:
    """The layer that states what a call computes; Uncounted where no rule knows it.

    Our own rules of what computes are for real numbers: a complex product is several real ones.
    """
    rule = RULES.get(call.name)
    layer = unknown(call) if rule is None else rule(call)
    if call.name in _FOR_REAL and any(x.dtype.is_complex for x in (*call.inputs, call.output)):
        return unknown(call) if any(nest.ops for nest in layer.nests(*call.given)) else layer
    return layer


def unknown(call: Call) -> Layer:
    """The row of a call whose cost no rule states."""
    return Uncounted(call.name, call.given, tuple(call.output.shape), inplace_view(call))


def inplace_view(call: Call) -> bool:
    """Whether the output lives in the memory of an input."""
    return call.inplace or call.name in _VIEWS


_ELEMENTWISE: dict[str, dict[str, int]] = {
    "sub": {"add": 1},
    "rsub": {"add": 1},
    "mul": {"mul": 1},
    "div": {"div": 1},
    "floor_divide": {"div": 1},
    "remainder": {"div": 1},
    "fmod": {"div": 1},
    "reciprocal": {"div": 1},
    "addcmul": {"mul": 1, "add": 1},
    "addcdiv": {"div": 1, "add": 1},
    "lerp": {"mul": 1, "add": 2},
    "pow": {"pow": 1},
    "sqrt": {"sqrt": 1},
    "rsqrt": {"sqrt": 1, "div": 1},
    "exp": {"exp": 1},
    "expm1": {"exp": 1, "add": 1},
    "exp2": {"exp": 1},
    "log": {"log": 1},
    "log2": {"log": 1},
    "log10": {"log": 1},
    "log1p": {"log": 1, "add": 1},
    "erf": {"erf": 1},
    "erfinv": {"erf": 1},
    "sin": {"sin": 1},
    "cos": {"sin": 1},
    "tan": {"sin": 1},
    "atan": {"sin": 1},
    "atan2": {"sin": 1, "div": 1},
    "abs": {"cmp": 1},
    "sign": {"cmp": 1},
    "neg": {},
    "floor": {},
    "ceil": {},
    "round": {},
    "trunc": {},
    "maximum": {"cmp": 1},
    "minimum": {"cmp": 1},
    "clamp": {"cmp": 2},
    "clamp_min": {"cmp": 1},
    "clamp_max": {"cmp": 1},
    "linalg_cross": {"mul": 2, "add": 1},
    "where": {},
    "masked_fill": {},
    **{name: {"cmp": 1} for name in ("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf")},
    **{name: {} for name in ("logical_and", "logical_or", "logical_not", "logical_xor")},
    **{name: {} for name in ("bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor", "__and__", "__or__")},
}


@operation(*_ELEMENTWISE)
def _elementwise(call: Call) -> Layer:
    ops = _multiplied(call) if call.name == "mul" else _ELEMENTWISE[call.name]
    return Elementwise(call.name, tuple(ops.items()), call.inplace)


def _multiplied(call: Call) -> dict[str, int]:
    """(a + bi)(c + di) = (ac - bd) + (ad + bc)i; a real number is multiplied with both parts."""
    complex_ones = sum(x.is_complex() if isinstance(x, Tensor) else isinstance(x, complex) for x in call.args)
    return {"mul": 4, "add": 2} if complex_ones == 2 else {"mul": 1 + complex_ones}


@operation("polar")
def _polar(call: Call) -> Layer:
    """The cosine and sine of an angle, each times a length."""
    return Elementwise("polar", (("sin", 2), ("mul", 2)))


@operation("add")
def _add(call: Call) -> Layer:
    first, *others = call.given
    if others == [first] and call.kwargs.get("alpha", 1) == 1:
        return Add(inplace=call.inplace)
    scaled = (("mul", 1),) if call.kwargs.get("alpha", 1) != 1 else ()
    return Elementwise("add", (("add", 1), *scaled), call.inplace)


_ACTIVATIONS = {
    "relu": ("ReLU", ()),
    "gelu": ("GELU", ("approximate",)),
    "silu": ("SiLU", ()),
    "mish": ("Mish", ()),
    "sigmoid": ("Sigmoid", ()),
    "tanh": ("Tanh", ()),
    "hardswish": ("Hardswish", ()),
    "hardsigmoid": ("Hardsigmoid", ()),
    "leaky_relu": ("LeakyReLU", ("negative_slope",)),
    "elu": ("ELU", ("alpha",)),
    "celu": ("CELU", ("alpha",)),
    "softplus": ("Softplus", ("beta", "threshold")),
    "log_sigmoid_forward": ("LogSigmoid", ()),
    "hardshrink": ("Hardshrink", ("lambd",)),
    "softshrink": ("Softshrink", ("lambd",)),
}


_IN_PLACE = {kind for kind, _ in _ACTIVATIONS.values() if "inplace" in KINDS[kind].__dataclass_fields__}


@operation(*_ACTIVATIONS)
def _activation(call: Call) -> Layer:
    kind, names = _ACTIVATIONS[call.name]
    values = {name: call.argument(i, name) for i, name in enumerate(names, start=1)}
    fields = {name: value for name, value in values.items() if value is not None}
    if not call.inplace:
        return KINDS[kind](**fields)
    if kind in _IN_PLACE:
        return KINDS[kind](**fields, inplace=True)  # type: ignore[call-arg]
    (nest,) = KINDS[kind](**fields).nests(call.given[0])
    return Elementwise(call.name, tuple(nest.ops.items()), inplace=True)


@operation("_prelu_kernel", "rrelu_with_noise")
def _leaky(call: Call) -> Layer:
    """A comparison, and a product where the element is negative."""
    return Elementwise(call.name, (("cmp", 1), ("mul", 1)), call.inplace)


@operation("hardtanh")
def _hardtanh(call: Call) -> Layer:
    low, high = call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0)
    if (low, high) == (0, 6):
        return KINDS["ReLU6"](inplace=call.inplace)  # type: ignore[call-arg]
    return KINDS["Hardtanh"](low, high, inplace=call.inplace)  # type: ignore[call-arg]


@operation("_softmax", "_safe_softmax", "_log_softmax")
def _softmax(call: Call) -> Layer:
    return KINDS["LogSoftmax" if "log" in call.name else "Softmax"](call.argument(1, "dim"))  # type: ignore[call-arg]


@operation("mm", "bmm", "mv", "dot", "vdot")
def _product(call: Call) -> Layer:
    return MatMul(call.name)


@operation("addmm", "baddbmm", "addmv")
def _added_product(call: Call) -> Layer:
    beta, alpha = call.argument(3, "beta", 1), call.argument(4, "alpha", 1)
    return MatMul(call.name, added=beta != 0, scaled=(alpha != 1) + (beta not in (0, 1)))


@operation("_grouped_mm")
def _grouped_product(call: Call) -> Layer:
    """Rows in groups, each multiplied with a matrix of its own; other forms have no rule."""
    return GroupedMatMul("grouped_mm") if [len(shape) for shape in call.given[:2]] == [2, 3] else unknown(call)


@operation("_weight_norm_interface")
def _weight_norm(call: Call) -> Layer:
    return WeightNorm("weight_norm", call.argument(2, "dim", 0))


_REDUCTIONS: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "sum": ({"add": 1}, {}),
    "mean": ({"add": 1}, {"div": 1}),
    "nansum": ({"add": 1}, {}),
    "prod": ({"mul": 1}, {}),
    "amax": ({"cmp": 1}, {}),
    "amin": ({"cmp": 1}, {}),
    "max": ({"cmp": 1}, {}),
    "min": ({"cmp": 1}, {}),
    "argmax": ({"cmp": 1}, {}),
    "argmin": ({"cmp": 1}, {}),
    "any": ({}, {}),
    "all": ({}, {}),
    "_is_any_true": ({}, {}),
    "_is_all_true": ({}, {}),
    "linalg_vector_norm": ({"mul": 1, "add": 1}, {"sqrt": 1}),
    "norm": ({"mul": 1, "add": 1}, {"sqrt": 1}),
    "var": ({"add": 3, "mul": 1}, {"div": 2}),
    "std": ({"add": 3, "mul": 1}, {"div": 2, "sqrt": 1}),
    "logsumexp": ({"cmp": 1, "add": 2, "exp": 1}, {"log": 1, "add": 1}),
}


@operation(*_REDUCTIONS)
def _reduction(call: Call) -> Layer:
    ops, finish = _REDUCTIONS[call.name]
    if len(call.inputs) == 2:  # max and min of two tensors
        return Elementwise(call.name, tuple(ops.items()))
    rank = len(call.given[0])
    keepdim = call.output.ndim == rank
    power = call.name in ("linalg_vector_norm", "norm")
    if power and call.argument(1, "ord", 2) not in (2, None):
        return unknown(call)
    index = 2 if power else 1
    dims = call.argument(index, "dim")
    dims = tuple(range(rank)) if dims is None or dims == [] else (dims,) if isinstance(dims, int) else tuple(dims)
    return Reduce(call.name, tuple(ops.items()), dims, keepdim and rank > 0, tuple(finish.items()))


@operation("cumsum", "cumprod")
def _cumulated(call: Call) -> Layer:
    return Elementwise(call.name, (("add" if call.name == "cumsum" else "mul", 1),))


@operation("convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution")
def _convolution(call: Call) -> Layer:
    weight = call.args[1]
    bias = call.argument(2, "bias")
    stride, padding, dilation, transposed, output_padding, groups = call.args[3:9]
    rank = weight.ndim - 2
    fields: dict[str, Any] = {
        "kernel_size": tuple(weight.shape[2:]),
        "stride": _per_axis(stride, rank),
        "padding": _per_axis(padding, rank),
        "dilation": _per_axis(dilation, rank),
        "groups": groups,
        "bias": bias is not None,
    }
    if transposed:
        fields |= {"out_channels": weight.shape[1] * groups, "output_padding": _per_axis(output_padding, rank)}
        return Functional(KINDS[f"ConvTranspose{rank}d"](**fields))
    return Functional(KINDS[f"Conv{rank}d"](**fields | {"out_channels": weight.shape[0]}))


def _per_axis(values: Sequence[int], rank: int) -> tuple[int, ...]:
    return tuple(values) * (rank if len(values) == 1 else 1)


@operation("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def _batch_norm(call: Call) -> Layer:
    kind = KINDS[f"BatchNorm{max(len(call.given[0]) - 2, 1)}d"]
    fixed = call.name.endswith("no_training") or not call.argument(5, "training", False)
    return Functional(kind(affine=call.args[1] is not None, track_running_stats=fixed))  # type: ignore[call-arg]


@operation("native_layer_norm")
def _layer_norm(call: Call) -> Layer:
    affine = call.argument(2, "weight") is not None
    return Functional(KINDS["LayerNorm"](tuple(call.args[1]), elementwise_affine=affine))  # type: ignore[call-arg]


@operation("native_group_norm")
def _group_norm(call: Call) -> Layer:
    return Functional(KINDS["GroupNorm"](call.args[6], affine=call.args[1] is not None))  # type: ignore[call-arg]


@operation("embedding")
def _embedding(call: Call) -> Layer:
    return _moved(call)


def _of_images(rule: Rule) -> Rule:
    """The rule for images of the rank in the operation's name, in a batch or one alone."""

    def both(call: Call) -> Layer:
        layer = rule(call)
        return Unbatched(layer) if f"{len(call.given[0]) - 1}d" in call.name else layer

    return both


def _of_its_kernel(rule: Rule) -> Rule:
    """The rule for pooling; a kernel as long as an axis may have been computed from it, and holds for that map only."""

    def whole(call: Call) -> Layer:
        layer, kernel = rule(call), _per_axis(call.args[1], 3 if "3d" in call.name else 2)
        extents = call.given[0][-len(kernel) :]
        return Baked(layer, call.given) if any(1 < k == e for k, e in zip(kernel, extents, strict=True)) else layer

    return whole


@operation("max_pool2d_with_indices", "max_pool3d_with_indices")
@_of_its_kernel
@_of_images
def _max_pool(call: Call) -> Layer:
    rank = 3 if "3d" in call.name else 1 if "1d" in call.name else 2
    kernel = _per_axis(call.args[1], rank)
    return KINDS[f"MaxPool{rank}d"](  # type: ignore[call-arg]
        kernel,
        _per_axis(call.argument(2, "stride") or kernel, rank),
        _per_axis(call.argument(3, "padding", [0]), rank),
        dilation=_per_axis(call.argument(4, "dilation", [1]), rank),
        ceil_mode=call.argument(5, "ceil_mode", False),
    )


@operation("avg_pool2d", "avg_pool3d")
@_of_its_kernel
@_of_images
def _avg_pool(call: Call) -> Layer:
    rank = int(call.name[8])
    kernel = _per_axis(call.args[1], rank)
    return KINDS[f"AvgPool{rank}d"](  # type: ignore[call-arg]
        kernel,
        _per_axis(call.argument(2, "stride") or kernel, rank),
        _per_axis(call.argument(3, "padding", [0]), rank),
        ceil_mode=call.argument(4, "ceil_mode", False),
        count_include_pad=call.argument(5, "count_include_pad", True),
    )


@operation("_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
@_of_images
def _adaptive_avg_pool(call: Call) -> Layer:
    rank = int(call.name[-2])
    return KINDS[f"AdaptiveAvgPool{rank}d"](tuple(call.args[1]))  # type: ignore[call-arg]


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


_VIEWS = {"as_strided", "diagonal", "unfold", "view_as_real", "view_as_complex"}
"""Operations without a layer of their own that put out a view."""


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


@operation(*(f"{mode}_pad{rank}d" for mode in ("reflection", "replication") for rank in (1, 2, 3)))
def _edge_pad(call: Call) -> Layer:
    mode, _, rank = call.name.partition("_pad")
    return KINDS[f"{mode.capitalize()}Pad{rank}"](tuple(call.args[1]))  # type: ignore[call-arg]


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


@operation("index_add", "scatter_add")
def _added_to(call: Call) -> Layer:
    """An index as large as what it adds is what is visited: scatter_add's source may be larger."""
    scaled = (("mul", 1),) if call.kwargs.get("alpha", 1) != 1 else ()
    source = -1 if call.name == "index_add" else 1
    shape = tuple(call.output.shape)
    return Scattered(call.name, (), shape, call.inplace, 0, (("add", 1), *scaled), source)


@operation("col2im")
def _col2im(call: Call) -> Layer:
    """The sum of the windows that overlap (torch.nn.Fold)."""
    return Scattered(call.name, call.given, tuple(call.output.shape), ops=(("add", 1),))


@operation("_embedding_bag", "_embedding_bag_forward_only")
def _embedding_bag(call: Call) -> Layer:
    taken = ({"add": 1}, {"add": 1}, {"cmp": 1})[call.argument(4, "mode", 0)]
    taken = taken if call.argument(6, "per_sample_weights") is None else {"mac": 1}
    finish = {"div": 1} if call.argument(4, "mode", 0) == 1 else {}
    ops = tuple(taken.items()), tuple(finish.items())
    return Bags("embedding_bag", call.given, tuple(call.output.shape), False, -1, *ops)


@operation("adaptive_max_pool2d", "adaptive_max_pool3d")
@_of_images
def _adaptive_max_pool(call: Call) -> Layer:
    return KINDS[f"AdaptiveMaxPool{call.name[-2]}d"](tuple(call.args[1]))  # type: ignore[call-arg]


@operation("glu")
def _glu(call: Call) -> Layer:
    return KINDS["GLU"](call.argument(1, "dim", -1))  # type: ignore[call-arg]


_MOVES = (
    *("index", "gather", "take", "repeat", "index_select", "masked_select", "unfold", "im2col"),
    *("as_strided", "diagonal", "rot90", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "resize", "set"),
    *(
        "_pack_padded_sequence",
        "view_as_real",
        "view_as_complex",
        "complex",
        "_local_scalar_dense",
        "arange",
        "linspace",
        "eye",
        "scalar_tensor",
    ),
    *("zeros", "ones", "empty", "full", "rand", "randn", "randint", "randperm", "empty_strided"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided"),
)
"""Operations that move or make data, and compute nothing."""


@operation(*_MOVES)
def _moved(call: Call) -> Layer:
    """Data that only moves, as it was seen."""
    return Recorded(call.name, call.given, tuple(call.output.shape), inplace_view(call))


_MODES = {
    **{f"upsample_nearest{rank}d": "nearest" for rank in (1, 2, 3)},
    **{f"_upsample_nearest_exact{rank}d": "nearest-exact" for rank in (1, 2, 3)},
    "upsample_linear1d": "linear",
    "upsample_bilinear2d": "bilinear",
    "upsample_trilinear3d": "trilinear",
    "upsample_bicubic2d": "bicubic",
}


@operation(*_MODES)
def _upsample(call: Call) -> Layer:
    """A scale that is given holds for other sizes too; a size does not."""
    mode, rank = _MODES[call.name], call.output.ndim - 2
    scales = [one for one in call.args[2:] if type(one) is float]
    if len(scales) == rank:
        return KINDS["Upsample"](scale_factor=tuple(scales), mode=mode)  # type: ignore[call-arg]
    return Baked(KINDS["Upsample"](size=tuple(call.output.shape[2:]), mode=mode), call.given)  # type: ignore[call-arg]


_FOR_REAL = frozenset(RULES) - {"mul", "polar"}
