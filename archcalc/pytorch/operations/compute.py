"""Rules of arithmetic: elementwise operations, activations, reductions, matrix products."""

from __future__ import annotations

from torch import Tensor

from archcalc.layers import KINDS, Add, Layer
from archcalc.layers.operation import (
    Bags,
    Elementwise,
    GroupedMatMul,
    MatMul,
    Reduce,
    Scattered,
    WeightNorm,
)
from archcalc.pytorch.operations.calls import Call, operation, unknown

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


@operation("glu")
def _glu(call: Call) -> Layer:
    return KINDS["GLU"](call.argument(1, "dim", -1))  # type: ignore[call-arg]
