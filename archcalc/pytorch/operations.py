"""Operations of torch by name, and the layer that states what each computes: what runs outside of known modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from archcalc.errors import SpecError
from archcalc.layers import KINDS, Add, Concat, Flatten, Layer
from archcalc.layers.operation import (
    Baked,
    Elementwise,
    Functional,
    MatMul,
    Pad,
    Part,
    Permute,
    Recorded,
    Reduce,
    Reshape,
    Select,
    Slice,
    Uncounted,
    regrouped,
)


class Call(NamedTuple):
    """One call of an operation: its name without namespace and overload, arguments, tensors in and out."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]
    output: Tensor

    @property
    def inplace(self) -> bool:
        """Whether the operation overwrites its first argument."""
        return self.name.endswith("_") and not self.name.endswith("__")

    @property
    def given(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the tensors that flow in."""
        return tuple(tuple(x.shape) for x in self.inputs)

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)


Rule = Callable[[Call], Layer]

RULES: dict[str, Rule] = {}
"""The rule of every operation there is one for, by its name in torch.ops.aten (in-place ones without underscore)."""


def operation(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of operations: a function from the call to the layer that states its cost.

    Raises SpecError for an operation that has a rule.

    >>> @operation("my_library::swish")
    ... def swish(call):
    ...     return Elementwise("swish", (("mul", 1), ("exp", 1), ("add", 1), ("div", 1)))
    """

    def register(rule: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise SpecError(f"there is already a rule for the operation {name}")
            RULES[name] = rule
        return rule

    return register


def layer_of(call: Call) -> Layer:
    """The layer that states what a call computes; Uncounted where no rule knows it."""
    rule = RULES.get(call.name) or RULES.get(call.name.rstrip("_"))
    return unknown(call) if rule is None else rule(call)


def unknown(call: Call) -> Layer:
    """The row of a call whose cost no rule states."""
    return Uncounted(call.name, call.given, tuple(call.output.shape), inplace_view(call))


def inplace_view(call: Call) -> bool:
    """Whether the output lives in the memory of an input."""
    return call.inplace or call.output._is_view()


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
    "square": {"mul": 1},
    "exp": {"exp": 1},
    "expm1": {"exp": 1, "add": 1},
    "exp2": {"exp": 1},
    "log": {"log": 1},
    "log2": {"log": 1},
    "log10": {"log": 1},
    "log1p": {"log": 1, "add": 1},
    "erf": {"erf": 1},
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
    "where": {},
    "masked_fill": {},
    **{name: {"cmp": 1} for name in ("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite")},
    **{name: {} for name in ("logical_and", "logical_or", "logical_not", "logical_xor")},
    **{name: {} for name in ("bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor", "__and__", "__or__")},
}


@operation(*_ELEMENTWISE)
def _elementwise(call: Call) -> Layer:
    name = call.name if call.name in _ELEMENTWISE else call.name.rstrip("_")
    if call.output.is_complex() and _ELEMENTWISE[name]:
        return unknown(call)
    return Elementwise(name, tuple(_ELEMENTWISE[name].items()), call.inplace)


@operation("add")
def _add(call: Call) -> Layer:
    first, *others = call.inputs
    if len(others) == 1 and first.shape == others[0].shape and call.kwargs.get("alpha", 1) == 1:
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


@operation(*_ACTIVATIONS)
def _activation(call: Call) -> Layer:
    kind, names = _ACTIVATIONS[call.name.rstrip("_") if call.name not in _ACTIVATIONS else call.name]
    values = {name: call.argument(i, name) for i, name in enumerate(names, start=1)}
    fields = {name: value for name, value in values.items() if value is not None}
    if call.inplace:
        fields["inplace"] = True
    return KINDS[kind](**fields)


@operation("hardtanh")
def _hardtanh(call: Call) -> Layer:
    low, high = call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0)
    if (low, high) == (0, 6):
        return KINDS["ReLU6"](inplace=call.inplace)  # type: ignore[call-arg]
    return KINDS["Hardtanh"](low, high, inplace=call.inplace)  # type: ignore[call-arg]


@operation("_softmax", "_safe_softmax", "_log_softmax", "softmax", "log_softmax")
def _softmax(call: Call) -> Layer:
    return KINDS["LogSoftmax" if "log" in call.name else "Softmax"](call.argument(1, "dim"))  # type: ignore[call-arg]


@operation("mm", "bmm", "mv", "dot", "matmul", "vdot")
def _product(call: Call) -> Layer:
    return MatMul(call.name)


@operation("addmm", "baddbmm", "addmv")
def _added_product(call: Call) -> Layer:
    return MatMul(call.name, added=True)


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
    "linalg_vector_norm": ({"mul": 1, "add": 1}, {"sqrt": 1}),
    "var": ({"add": 3, "mul": 1}, {"div": 2}),
    "std": ({"add": 3, "mul": 1}, {"div": 2, "sqrt": 1}),
    "logsumexp": ({"cmp": 1, "add": 2, "exp": 1}, {"log": 1, "add": 1}),
}


@operation(*_REDUCTIONS)
def _reduction(call: Call) -> Layer:
    ops, finish = _REDUCTIONS[call.name]
    if len(call.inputs) == 2:  # max and min of two tensors
        return Elementwise(call.name, tuple(ops.items()))
    x, y = call.inputs[0], call.output
    keepdim = y.ndim == x.ndim
    index = 2 if call.name == "linalg_vector_norm" else 1
    dims = call.argument(index, "dim")
    dims = tuple(range(x.ndim)) if dims is None or dims == [] else (dims,) if isinstance(dims, int) else tuple(dims)
    return Reduce(call.name, tuple(ops.items()), dims, keepdim and x.ndim > 0, tuple(finish.items()))


@operation("cumsum", "cumprod")
def _cumulated(call: Call) -> Layer:
    return Elementwise(call.name, (("add" if call.name == "cumsum" else "mul", 1),))


@operation("convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution", "convolution_overrideable")
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


@operation("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "batch_norm")
def _batch_norm(call: Call) -> Layer:
    x = call.inputs[0]
    kind = KINDS[f"BatchNorm{max(x.ndim - 2, 1)}d"]
    return Functional(kind(affine=call.args[1] is not None))  # type: ignore[call-arg]


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


@operation("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d", "max_pool1d")
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


@operation("avg_pool2d", "avg_pool3d", "avg_pool1d")
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


@operation("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool2d", "adaptive_avg_pool1d")
def _adaptive_avg_pool(call: Call) -> Layer:
    rank = int(call.name[-2])
    return KINDS[f"AdaptiveAvgPool{rank}d"](tuple(call.args[1]))  # type: ignore[call-arg]


@operation("cat", "concat")
def _cat(call: Call) -> Layer:
    dim = call.argument(1, "dim", 0)
    return Concat(dim) if len(call.inputs) > 1 else _alike(call)


@operation("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "unflatten")
def _view(call: Call) -> Layer:
    before, after = tuple(call.inputs[0].shape), tuple(call.output.shape)
    if 0 in before or 0 in after:
        return _moved(call)
    groups = regrouped(before, after)
    if len(before) > 2 and len(after) == 2 and groups == (((0,), after[:1]), (tuple(range(1, len(before))), after[1:])):
        return Flatten()
    return Reshape(call.name, groups)


@operation("permute", "transpose", "t", "numpy_T", "swapaxes", "movedim")
def _permute(call: Call) -> Layer:
    rank = call.inputs[0].ndim
    dims = list(range(rank))
    if call.name == "permute":
        dims = [dim % rank for dim in call.args[1]]
    elif call.name == "transpose":
        a, b = (dim % rank for dim in call.args[1:3])
        dims[a], dims[b] = b, a
    else:
        dims.reverse()
    return Permute(call.name, tuple(dims))


_COPIES = ("clone", "contiguous", "copy", "_to_copy", "to", "roll", "flip", "fill", "zero", "zeros_like", "ones_like")
_ALIKE = (
    "empty_like",
    "full_like",
    "rand_like",
    "randn_like",
    "triu",
    "tril",
    "bernoulli",
    "dropout",
    "native_dropout",
)


@operation(
    *_COPIES,
    *_ALIKE,
    "index_put",
    "index_fill",
    "index_copy",
    "index_add",
    "scatter",
    "masked_scatter",
    "normal",
    "uniform",
)
def _alike(call: Call) -> Layer:
    """The output has the shape of the first input."""
    return Recorded(call.name, (), tuple(call.output.shape), inplace_view(call), copied=0)


@operation("slice")
def _slice(call: Call) -> Layer:
    size = call.inputs[0].shape[call.argument(1, "dim", 0)]
    stop = call.argument(3, "end")
    return Slice(
        "slice",
        call.argument(1, "dim", 0),
        call.argument(2, "start") or 0,
        None if stop is None or stop > size else stop,
        call.argument(4, "step", 1),
    )


@operation("select", "unbind")
def _select(call: Call) -> Layer:
    return Select(call.name, call.argument(1, "dim", 0))


@operation("split", "split_with_sizes", "chunk", "unsafe_split", "narrow")
def _part(call: Call) -> Layer:
    pairs = zip(call.inputs[0].shape, call.output.shape, strict=True)
    return Part(call.name, tuple(None if before == after else after for before, after in pairs))


@operation("constant_pad_nd")
def _pad(call: Call) -> Layer:
    pairs = zip(call.inputs[0].shape, call.output.shape, strict=True)
    return Pad(call.name, tuple(after - before for before, after in pairs))


_MOVES = (
    *("expand", "index", "gather", "stack", "take"),
    *("repeat", "repeat_interleave", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
    *("replication_pad1d", "replication_pad2d", "replication_pad3d", "as_strided", "unfold", "pixel_shuffle"),
    *("pixel_unshuffle", "channel_shuffle", "im2col", "col2im", "index_select", "masked_select"),
    *("diagonal", "diag_embed", "alias", "detach", "lift_fresh", "item", "view_as_real"),
    *("view_as_complex", "complex", "real", "imag", "squeeze_copy", "one_hot", "tile", "broadcast_tensors"),
    *("arange", "zeros", "ones", "empty", "full", "scalar_tensor", "new_zeros", "new_ones", "new_empty", "new_full"),
    *(
        "linspace",
        "eye",
        "rand",
        "randn",
        "randint",
        "tensor",
        "meshgrid",
        "resize",
        "set",
        "unsafe_split",
        "where_index",
    ),
    *(
        "_local_scalar_dense",
        "new_empty_strided",
        "empty_strided",
        "randperm",
        "unique_consecutive",
        "_unique2",
        "rot90",
    ),
)


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
    size = tuple(call.output.shape[2:])
    return Baked(KINDS["Upsample"](size=size, mode=_MODES[call.name]), call.given)  # type: ignore[call-arg]
