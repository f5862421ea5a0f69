"""fvcore, which walks the graph that torch.jit traces and has a rule for each of fifteen operations.

What has no rule is counted as 0 and named in a warning. A rule is found by the operation's name before PyTorch takes
it apart, so that attention in one piece is not seen although its two products, written one by one, are.

What no cause says: results that nothing reads are not in the graph, and count 0; einsum("abc,abd->acd") and
("abc,adc->adb"), which fvcore knows by heart, are not rounded; of an einsum of three operands the sum is.
"""

from archcalc.analysis import Row
from archcalc.conventions.base import Cause, Convention, function, functions, layer_of, of, stretched
from archcalc.extents import Extent, prod

_SEEN = {
    *("linear", "matmul", "mm", "bmm", "addmm", "einsum"),
    *(f"conv{transposed}{rank}d" for transposed in ("", "_transpose") for rank in (1, 2, 3)),
}
"""Functions with multiply-adds that have a rule."""

_LAYERS = {
    "Linear",
    *("TableConv2d", "RNNCell", "LSTMCell", "GRUCell"),
    *(f"Conv{transposed}{rank}d" for transposed in ("", "Transpose") for rank in (1, 2, 3)),
}
"""Kinds of layer that call one of them."""

_ATTENTION = "scaled_dot_product_attention"
_RECURRENT = {"RNN", "LSTM", "GRU"}
_BATCH_NORMS = {f"BatchNorm{rank}d" for rank in (1, 2, 3)}
_NORMS = {"LayerNorm", "GroupNorm", *(f"InstanceNorm{rank}d" for rank in (1, 2, 3))}


def _affine(row: Row) -> bool:
    layer = layer_of(row)
    return bool(getattr(layer, "affine", False) or getattr(layer, "elementwise_affine", False))


def _batch_norm(row: Row) -> Extent:
    if row.kind not in _BATCH_NORMS or function(row) == "instance_norm":
        return 0
    fixed = getattr(layer_of(row), "track_running_stats", False)
    return ((1 if fixed else 4) + _affine(row)) * prod(row.output)


def _norm(row: Row) -> Extent:
    if row.kind in _NORMS or (row.kind in _BATCH_NORMS and function(row) == "instance_norm"):
        return (4 + _affine(row)) * prod(row.output)
    return 0


def _adaptive_pooling(row: Row) -> Extent:
    if functions(row):  # to one pixel, it runs as a mean
        seen = function(row) == "adaptive_avg_pool2d" and row.kind in ("AdaptiveAvgPool2d", "mean")
    else:
        seen = row.kind == "AdaptiveAvgPool2d"
    return prod(row.inputs[0]) if seen else 0


def _upsampling(row: Row) -> Extent:
    if row.kind == "grid_sampler_2d":
        return 4 * prod(row.output)
    layer = layer_of(row)
    fixed = {"UpsamplingNearest2d": "nearest", "UpsamplingBilinear2d": "bilinear"}
    mode = getattr(layer, "mode", "") if layer.kind == "Upsample" else fixed.get(layer.kind, "")
    each = {"nearest": 1, "bilinear": 4}.get(mode, 0) if len(row.output) == 4 else 0
    return each * prod(row.output)


def _worded_padding(row: Row) -> Extent:
    layer, origin = layer_of(row), row.node.origin
    worded = origin.worded if origin else isinstance(getattr(layer, "padding", None), str)
    return -row.macs if worded and getattr(layer, "padding_mode", "") == "zeros" else 0


def _attention(row: Row) -> Extent:
    if row.kind == "MultiheadAttention":
        products = (nest for nest in row.nests if all(one.role != "weight" for one in nest.operands))
        return -sum(nest.iterations for nest in products if "mac" in nest.ops)
    return -row.macs if function(row) == _ATTENTION else 0


def _others(row: Row) -> Extent:
    if functions(row):
        return 0 if function(row) in {*_SEEN, _ATTENTION} else -row.macs
    return 0 if row.kind in {*_LAYERS, *_RECURRENT, "MultiheadAttention"} else -row.macs


def _broadcast(row: Row) -> Extent:
    return stretched(row) if function(row) == "matmul" else 0


def _einsum(row: Row) -> Extent:
    """Numpy's FLOPs, one more than there are, written with four digits and halved: so of products without sums too."""
    if function(row) != "einsum" or row.kind not in ("bmm", "mul") or not isinstance(row.macs, int):
        return 0
    flops = 2 * row.macs if row.kind == "bmm" else prod(row.output)
    return int(float(f"{flops + 1:.3e}") / 2) - row.macs


CONVENTIONS = (
    Convention(
        "fvcore",
        "flops (fvcore)",
        "one for each MAC, and some normalisation, pooling and upsampling",
        "fvcore.nn.jit_handles, 0.1.5.post20221221",
        causes=(
            Cause(
                "batch norm, by element",
                _batch_norm,
                "Each element costs 2 (1 without scale and shift), or 5 (4) where the statistics are the input's own.",
            ),
            Cause(
                "normalisation, by element",
                _norm,
                "Layer, group and instance normalisation cost 5 for each element, 4 without scale and shift.",
            ),
            Cause(
                "adaptive pooling, 1 an input element",
                _adaptive_pooling,
                "Adaptive average pooling of images costs one addition for each element that is averaged.",
            ),
            Cause(
                "upsampling, by output element",
                _upsampling,
                "Each output of nearest upsampling of images costs 1, of bilinear upsampling or grid sampling 4.",
            ),
            Cause(
                "padding given as a word, not seen",
                _worded_padding,
                'padding="same" or "valid" runs another operation, aten::_convolution_mode, which has no rule.',
                defect=True,
            ),
            Cause(
                "fused attention not seen",
                _attention,
                "Attention in one piece is aten::scaled_dot_product_attention, for which there is no rule.",
                defect=True,
            ),
            Cause(
                "recurrent layers not seen",
                of(_RECURRENT, lambda row: -row.macs),
                "Recurrent layers run as one operation each, such as aten::lstm, for which there is no rule.",
                defect=True,
            ),
            Cause(
                "other products not seen",
                _others,
                "There is no rule for this operation.",
                defect=True,
            ),
            Cause(
                "broadcast product counted once",
                _broadcast,
                "The size of a product is read off its first operand, which is repeated for each matrix of the second.",
                defect=True,
            ),
            Cause(
                "einsum, rounded to four digits",
                _einsum,
                "The count is read from a text that numpy writes with four digits.",
                defect=True,
            ),
        ),
        activations="outputs of convolutions, fully connected layers and matrix products, by another function",
    ),
)
