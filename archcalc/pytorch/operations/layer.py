"""Rules of functions that are layers: convolution, normalisation, pooling, padding, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archcalc.layers import KINDS, Layer
from archcalc.layers.operation import (
    Baked,
    Functional,
    Unbatched,
)
from archcalc.pytorch.operations.calls import Call, Rule, operation


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


def _of_images(rule: Rule) -> Rule:
    """The rule for images of the rank in the operation's name, in a batch or one alone."""

    def both(call: Call) -> Layer:
        layer = rule(call)
        return Unbatched(layer) if f"{len(call.given[0]) - 1}d" in call.name else layer

    return both


def _rank(call: Call) -> int:
    """Two for pooling of images, three of volumes; torch pools signals as images."""
    return 3 if "3d" in call.name else 2


def _of_its_kernel(rule: Rule) -> Rule:
    """The rule for pooling; a kernel as long as an axis may have been computed from it, and holds for that map only."""

    def whole(call: Call) -> Layer:
        layer, kernel = rule(call), _per_axis(call.args[1], _rank(call))
        extents = call.given[0][-len(kernel) :]
        return Baked(layer, call.given) if any(1 < k == e for k, e in zip(kernel, extents, strict=True)) else layer

    return whole


@operation("max_pool2d_with_indices", "max_pool3d_with_indices")
@_of_its_kernel
@_of_images
def _max_pool(call: Call) -> Layer:
    rank = _rank(call)
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
    rank = _rank(call)
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


@operation(*(f"{mode}_pad{rank}d" for mode in ("reflection", "replication") for rank in (1, 2, 3)))
def _edge_pad(call: Call) -> Layer:
    mode, _, rank = call.name.partition("_pad")
    return KINDS[f"{mode.capitalize()}Pad{rank}"](tuple(call.args[1]))  # type: ignore[call-arg]


@operation("adaptive_max_pool2d", "adaptive_max_pool3d")
@_of_images
def _adaptive_max_pool(call: Call) -> Layer:
    return KINDS[f"AdaptiveMaxPool{call.name[-2]}d"](tuple(call.args[1]))  # type: ignore[call-arg]


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
