"""ptflops, which has two backends: one hooks modules and patches functions, the other sees torch's operations."""

from __future__ import annotations

from archcalc.analysis import Row
from archcalc.conventions.base import Amount, Cause, Convention, functions, layer_of, module, run_by, stretched
from archcalc.conventions.patched import (
    MATMUL,
    attention_products,
    calls,
    further_ways,
    looked_up,
)
from archcalc.conventions.ptflops_attention import (
    attends,
    attention_again,
    imagined_bias,
    in_timm,
    other_sizes,
    softmax_and_biases,
    timm_products,
)
from archcalc.conventions.unbatched import unbatched
from archcalc.extents import Extent, prod
from archcalc.layers import GRU, LSTM, RNN, MultiheadAttention

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_UNKNOWN = {"mv", "dot", "vdot", "baddbmm", "addmv", "addbmm", "Bilinear"}


def _bias(row: Row) -> Extent:
    """1 an output element, where bias and product are one operation."""
    if row.kind == "addmm":
        return prod(row.output)
    if (
        row.kind in ("Bilinear", "TableConv2d")
        or _fused_lstm(row)
        or (row.kind == "Linear" and not _one_operation(row))
    ):
        return 0
    return row.ledger.get("bias_add", 0) - _added_apart(row)


def _one_operation(row: Row) -> bool:
    """Whether a fully connected layer runs as addmm: of a matrix, or of what lies in memory in order."""
    return len(row.inputs[0]) <= 2 or row.node.origin is None or row.node.origin.contiguous


def _added_apart(row: Row) -> Extent:
    """Biases of the products with a whole batch-first sequence, which does not lie in memory step by step."""
    layer = layer_of(row)
    if not isinstance(layer, RNN | LSTM | GRU | MultiheadAttention) or not layer.bias or not layer.batch_first:
        return 0
    x = row.inputs[0]
    if len(x) == 2 or 1 in x[:2]:
        return 0
    if isinstance(layer, MultiheadAttention):
        return 3 * prod(x)
    return (1 + layer.bidirectional) * prod(x[:2]) * _GATES[row.kind] * layer.hidden_size


def _fused_lstm(row: Row) -> bool:
    return row.kind == "LSTM" and not getattr(layer_of(row), "proj_size", 0)


# The backend `pytorch`: hooks on modules of these very classes, and functions that are patched.

_RANKS = (1, 2, 3)


def _names(prefix: str, *names: str) -> set[str]:
    return {f"{prefix}{name}{rank}d" for name in names for rank in _RANKS}


_POOLS = _names("", "MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool")
_NORMS = {*_names("", "BatchNorm", "InstanceNorm"), "GroupNorm", "LayerNorm"}
_ACTIVATIONS = {"ReLU", "PReLU", "ELU", "LeakyReLU", "ReLU6", "GELU"}
_PRODUCTS = {"Linear", *_names("", "Conv", "ConvTranspose")}
_STEPS = {"RNN", "LSTM", "GRU"}
_CELLS = {f"{kind}Cell" for kind in _STEPS}
_UPDATES = {"RNN": 1, "GRU": 7, "LSTM": 10}

_CALLED = {"ReLU", "PReLU", "ELU", "GELU", "SiLU", "Softmax", "Softmax2d", *_POOLS}
"""Kinds whose modules call a function that is patched."""

_ELEMENTWISE = {"functional.relu", "prelu", "functional.elu", "functional.relu6", "functional.gelu", "functional.silu"}
_POOLED = {
    *_names("functional.", "avg_pool", "max_pool", "adaptive_max_pool", "adaptive_avg_pool"),
    *("avg_pool1d", "adaptive_avg_pool1d"),
}
_RESIZED = {"functional.interpolate", "functional.upsample"}
_FUNCTIONS = {*_ELEMENTWISE, *_POOLED, "functional.softmax"}
_ADDED = {"addmm", "Tensor.addmm", "baddbmm"}
_SUMS = {"add", "Tensor.add", "mul", "Tensor.mul"}
_SEEN = {*MATMUL, "mm", "Tensor.mm", "bmm", "Tensor.bmm", "addmm", "Tensor.addmm", "baddbmm"}


def _hooked(kinds: set[str], amount: Amount) -> Amount:
    """An amount on modules of torch.nn of these kinds, not of classes derived from them."""
    return lambda row: amount(row) if _class(row) in kinds else 0


def _class(row: Row) -> str:
    """The class of torch.nn that a row is a call of, be it without a batch axis; "" if none, or one derived from it."""
    alone = unbatched(row)
    if alone:
        return "" if row.macs else alone.module.removeprefix("torch.nn.")
    return row.kind if module(row) == f"torch.nn.{row.kind}" else ""


def _numel(row: Row) -> Extent:
    return prod(row.inputs[0]) if row.inputs else 0


def _normalised(row: Row) -> Extent:
    scaled = len(row.inputs) > 1 if unbatched(row) else getattr(layer_of(row), "affine", False)
    return _numel(row) * (2 if scaled else 1)


def _channels_for_batch(row: Row) -> Extent:
    """What an image without a batch counts beyond its multiply-adds: its axes are taken for those one before."""
    alone = unbatched(row)
    if not alone or not row.macs:
        return 0
    transposed = alone.module.startswith("torch.nn.ConvTranspose")
    positions = prod((alone.given if transposed else alone.output)[2:])
    bias = prod(alone.output[1:]) if len(row.inputs) > 2 else 0
    return alone.given[0] * (prod(row.inputs[1]) * positions + bias) - row.macs


def _called(row: Row) -> Extent:
    """Elements that a patched function counts."""
    if functions(row):
        return _numel(row) if row.ledger and calls(row, _FUNCTIONS) else 0
    return _numel(row) if row.kind in _CALLED else 0


def _again(row: Row) -> Extent:
    """Elements that the function counts which a hooked module calls."""
    return _hooked(_ACTIVATIONS | _POOLS, _called)(row)


def _resized(row: Row) -> Extent:
    """Elements that interpolate is taken to put out."""
    if functions(row):
        if not calls(row, _RESIZED) or (not row.ledger and row.kind != "Upsample"):
            return 0
        size = prod(row.output) * (2 if looked_up(row) == "functional.upsample" else 1)
        return size if row.kind == "Upsample" else size + _numel(row)  # mode "area" is adaptive pooling
    if row.kind not in ("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"):
        return 0
    scale = getattr(layer_of(row), "scale_factor", None)
    if isinstance(scale, tuple):
        return _numel(row) * prod(map(int, scale))
    return prod(row.output) if scale is None else _numel(row) * scale ** (len(row.output) - 2) // 1


def _updates(row: Row) -> Extent:
    """Sums and products of gates, of every step, layer and direction."""
    layer = layer_of(row)
    cells = getattr(layer, "num_layers", 1) * (1 + getattr(layer, "bidirectional", False))
    steps = prod(row.output[:-1])
    return steps * cells * _UPDATES[row.kind.removesuffix("Cell")] * getattr(layer, "hidden_size", 0)


def _projected(row: Row) -> Extent:
    """MACs of an LSTM's projections."""
    layer = layer_of(row)
    if not isinstance(layer, LSTM):
        return 0
    cells = layer.num_layers * (1 + layer.bidirectional)
    return prod(row.output[:-1]) * cells * layer.proj_size * layer.hidden_size


def _features_for_batch(row: Row) -> Extent:
    """What a sequence without a batch counts too much: its features are taken for the batch."""
    if len(row.inputs[0]) != 2:
        return 0
    once = row.macs - _projected(row) + row.ledger.get("bias_add", 0) + _updates(row)
    return (row.inputs[0][1] - 1) * once


def _hooked_bias(row: Row) -> Extent:
    """Biases that hooks count."""
    if run_by(row):
        return prod(row.output) if row.kind == "addmm" else row.ledger.get("bias_add", 0)
    return _hooked(_PRODUCTS | _STEPS | _CELLS, lambda row: row.ledger.get("bias_add", 0))(row)


def _hooked_macs(row: Row) -> Extent:
    """MACs that hooks count."""
    if attends(row) or run_by(row):
        return row.macs
    return _hooked(_PRODUCTS | _STEPS | _CELLS, lambda row: row.macs)(row)


def _function_macs(row: Row) -> Extent:
    """MACs that functions count; of what torch itself calls, too."""
    return row.macs if calls(row, _SEEN) else 0


def _unseen(row: Row) -> Extent:
    seen = attends(row) or run_by(row) or unbatched(row) or not functions(row)
    return 0 if seen else _function_macs(row) - row.macs


def _added(row: Row) -> Extent:
    """Elements of what addmm adds."""
    return prod(row.inputs[0]) if calls(row, _ADDED) else 0


def _by_name(row: Row) -> Extent:
    """Elements of a sum or product that is called by name: axes are matched from the first on, not from the last."""
    if not calls(row, _SUMS) or row.kind not in ("Add", "add", "mul"):
        return 0
    longest = max(map(len, row.inputs))
    shapes = [(*shape, *(1,) * (longest - len(shape))) for shape in row.inputs]
    return prod(map(max, *shapes)) if len(shapes) > 1 else prod(shapes[0])


def _inside(row: Row) -> Extent:
    """Elements that functions count which torch's own code calls in a module or function."""
    x = _numel(row)
    size = getattr(layer_of(row), "size", None)
    if not functions(row):
        if row.kind == "LocalResponseNorm":
            return 3 * x + (x // row.inputs[0][1]) * (row.inputs[0][1] + size - 1)
        return x + 2 * prod(row.output) if row.kind in _names("", "LPPool") else 0
    name = looked_up(row)
    if name == "functional.local_response_norm":
        return x if row.kind in ("mul", "add", *_names("", "AvgPool")) else 0
    if name in _names("functional.", "lp_pool"):
        return x if row.kind in ("ReLU", *_names("", "AvgPool")) or (row.kind == "mul" and len(row.inputs) == 1) else 0
    return 0


FROZEN = Cause(
    "frozen parameters not counted",
    lambda row: -row.frozen,
    because="Only parameters that are trained (requires_grad) are counted.",
)

ATEN = Convention(
    "ptflops-aten",
    "MACs (ptflops, aten)",
    "one for each multiply-add of the operations mm, bmm, addmm and convolution, and for each of their biases",
    "ptflops.aten_ops, 0.7.5",
    causes=(
        Cause("bias, 1 an output element", _bias, because="Adding a bias counts like a multiply-add."),
        Cause(
            "fused LSTM not seen",
            lambda row: -row.macs if _fused_lstm(row) else 0,
            because="On the CPU an LSTM runs as one operation (oneDNN's), for which there is no rule.",
            defect=True,
        ),
        Cause(
            "fused attention not seen",
            lambda row: -attention_products(row),
            because="On the CPU scaled_dot_product_attention runs as one operation, for which there is no rule.",
            defect=True,
        ),
        Cause(
            "operation without a rule",
            lambda row: -row.macs if row.kind in _UNKNOWN else 0,
            because="Products with a vector, baddbmm and bilinear layers run as operations that it does not know.",
            defect=True,
        ),
    ),
    params="parameters that are trained, each once",
    param_causes=(FROZEN,),
    units="multiples of 1000 (KMac, MMac, GMac)",
)

_HOOKS = (
    Cause(
        "bias, 1 an output element",
        _hooked_bias,
        because="Adding a bias counts like a multiply-add.",
    ),
    Cause(
        "normalisation, 2 an element",
        _hooked(_NORMS, _normalised),
        because="One for the normalisation of an element and one for its scale; 1 without scale, and for layer norm.",
    ),
    Cause(
        "activations, 1 an element",
        _hooked(_ACTIVATIONS, _numel),
        because="Each element of a ReLU or its like counts like a multiply-add.",
    ),
    Cause(
        "pooling, 1 an input element",
        _hooked(_POOLS, _numel),
        because="Each element that goes into a pooling layer counts like a multiply-add.",
    ),
    Cause(
        "upsampling, 1 an output element of one image",
        _hooked({"Upsample"}, lambda row: prod(row.output[1:])),
        because="The hook reads the first image of the output as if it were the whole of it.",
        defect=True,
    ),
    Cause(
        "gates, by hidden unit",
        _hooked(_STEPS | _CELLS, _updates),
        because="Sums and products of gates count like multiply-adds: 1 a unit and step (RNN), 7 (GRU), 10 (LSTM).",
    ),
    Cause(
        "features of a sequence taken for its batch",
        _hooked(_STEPS, _features_for_batch),
        because="Steps and batch are read off the first two axes; without a batch the second has the features.",
        defect=True,
    ),
    Cause(
        "projection of an LSTM not counted",
        _hooked({"LSTM"}, lambda row: -_projected(row)),
        because="The hook knows two matrices of each layer; with proj_size there is a third.",
        defect=True,
    ),
    Cause(
        "image without a batch, its channels taken for one",
        _channels_for_batch,
        because="Images, and height and width, are read off the first axis and those after the second; without a "
        "batch these are the channels and what is left of the size.",
        defect=True,
    ),
    Cause(
        "attention, scaling, softmax and biases",
        softmax_and_biases,
        because="The hook on attention counts 1 for each element that is scaled, goes through softmax, gets a bias.",
    ),
    Cause(
        "attention, a bias that is not there",
        imagined_bias,
        because="The hook on attention counts a bias at the output whether there is one or not.",
        defect=True,
    ),
    Cause(
        "attention, keys and values of other sizes",
        other_sizes,
        because="The hook on attention takes the matrices of keys, values and output to be square, as wide as the "
        "keys and values that go in (kdim, vdim), and knows no keys added inside (add_bias_kv, add_zero_attn).",
        defect=True,
    ),
)


def _of_hooks(row: Row) -> Extent:
    """All that hooks count of a row."""
    return sum((cause.amount(row) for cause in _HOOKS), start=_hooked_macs(row))


PYTORCH = Convention(
    "ptflops",
    "MACs (ptflops)",
    "one for each multiply-add of hooked modules and patched functions, their biases, norms, activations and pooling; "
    "a batch is counted as one call (called directly, ptflops divides what modules count by the batch, but not what "
    "functions count)",
    "ptflops.pytorch_ops, 0.7.5",
    causes=(
        *_HOOKS,
        Cause(
            "counted twice: hook and function",
            _again,
            because="A module such as nn.ReLU or nn.MaxPool2d is hooked, and the function that it calls is patched.",
            defect=True,
        ),
        Cause(
            "attention counted twice: hook and functions",
            attention_again,
            because="Attention that returns its weights calls bmm and softmax, which are patched.",
            defect=True,
        ),
        Cause(
            "timm's attention, products and softmax",
            timm_products,
            because="timm's attention has a hook: its products, and 1 for each element of softmax or scaled.",
        ),
        Cause(
            "timm's attention, layers inside not seen",
            lambda row: -_of_hooks(row) if in_timm(row) and not functions(row) else 0,
            because="Where a module is hooked, what hooks on the layers inside it count is not added up.",
            defect=True,
        ),
        Cause(
            "functions, 1 an element",
            lambda row: _called(row) - _again(row),
            because="Activations, pooling and softmax that are called as functions count 1 for each input element.",
        ),
        Cause(
            "interpolation, 1 an output element",
            _resized,
            because="The function that resizes an image is patched, and counts whether a hook counts as well or not.",
        ),
        Cause(
            "functions inside of layers",
            _inside,
            because="Local response norm and power-average pooling call patched functions for their steps.",
        ),
        Cause(
            "torch.add and torch.mul, 1 an element",
            _by_name,
            because="Sums and products that are called by name are patched; the operators + and * are not.",
        ),
        Cause("what addmm adds, 1 an element", _added, because="Each element of the tensor that is added counts."),
        Cause(
            "matmul of stretched tensors",
            lambda row: stretched(row) if calls(row, MATMUL) else 0,
            because="The elements of the first are multiplied with the last size of the second, which is wrong where "
            "one is repeated for the other's batch or is a vector.",
            defect=True,
        ),
        Cause(
            "functional call not seen",
            _unseen,
            because="Functions such as linear, conv2d, einsum and scaled_dot_product_attention, and the operator @, "
            "are not patched.",
            defect=True,
        ),
        Cause(
            "layer without a hook",
            lambda row: 0 if functions(row) else _hooked_macs(row) - row.macs,
            because="Modules are hooked by their very class: subclasses and layers such as Bilinear count 0.",
            defect=True,
        ),
        Cause(
            "module counted again under each parent",
            further_ways(_of_hooks),
            because="What a module counted is added up from the root down, for each parent that holds it.",
            defect=True,
        ),
    ),
    params="parameters that are trained, each once",
    param_causes=(FROZEN,),
    units="multiples of 1000 (KMac, MMac, GMac)",
)

CONVENTIONS = (PYTORCH, ATEN)
