"""Cases of convolutions, pools and normalisations in one to three dimensions: layers with shapes that they take."""

import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from archcalc.extents import Shape
from archcalc.layers import KINDS, Layer

Case = tuple[Layer, tuple[Shape, ...]]

_MOST = {0: 0, 1: 7, 2: 5, 3: 3}
"""Longest side of an image by rank, so that nests run in no time."""


def _image(draw: DrawFn, rank: int, least: int = 1, batch: int = 2, channels: int = 3) -> Shape:
    sides = draw(st.tuples(*[st.integers(least, _MOST[rank])] * rank))
    return (draw(st.integers(1, batch)), draw(st.integers(1, channels)), *sides)


def _each(draw: DrawFn, rank: int, least: int, most: int) -> tuple[int, ...]:
    return draw(st.tuples(*[st.integers(least, most)] * rank))


def _groups(draw: DrawFn, channels: int) -> int:
    return draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))


def _kernel(draw: DrawFn, shape: Shape, dilated: bool = True, half: bool = False) -> dict[str, Any]:
    """Taps, dilation and padding with which at least one window fits; padding of at most half of the taps."""
    kernel, dilation, padding = [], [], []
    for size in shape[2:]:
        taps = draw(st.integers(1, min(3, size + 1)))
        least = max(0, math.ceil((taps - size) / 2))
        around = draw(st.integers(least, max(least, taps // 2 if half else 2)))
        room = (size + 2 * around - 1) // (taps - 1) if taps > 1 else 3
        kernel.append(taps)
        padding.append(around)
        dilation.append(draw(st.integers(1, max(1, min(3, room)))) if dilated else 1)
    return {"kernel_size": tuple(kernel), "padding": tuple(padding), "dilation": tuple(dilation)}


def _conv(draw: DrawFn, kind: str, rank: int) -> Case:
    shape = _image(draw, rank)
    groups = _groups(draw, shape[1])
    fields: dict[str, Any] = {
        "out_channels": groups * draw(st.integers(1, 2)), "groups": groups, "bias": draw(st.booleans()),
    }  # fmt: skip
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    if draw(st.integers(0, 3)) == 0:
        fields |= {"kernel_size": _each(draw, rank, 1, 3), "dilation": _each(draw, rank, 1, 2), "padding": "same"}
        spans = [taps * step for taps, step in zip(fields["kernel_size"], fields["dilation"], strict=True)]
        fits = max(spans) <= min(shape[2:])
    else:
        fields |= _kernel(draw, shape) | {"stride": _each(draw, rank, 1, 3)}
        fits = max(fields["padding"]) < min(shape[2:])
    return KINDS[kind](**fields, padding_mode=mode if fits else "zeros"), (shape,)  # type: ignore[call-arg]


def _transposed(draw: DrawFn, kind: str, rank: int) -> Case:
    shape = _image(draw, rank)
    groups = _groups(draw, shape[1])
    kernel, stride, dilation = _each(draw, rank, 1, 3), _each(draw, rank, 1, 3), _each(draw, rank, 1, 2)
    padding, extra = [], []
    for size, taps, step, gap in zip(shape[2:], kernel, stride, dilation, strict=True):
        more = draw(st.integers(0, max(step, gap) - 1))
        reach = (size - 1) * step + (taps - 1) * gap + more
        padding.append(draw(st.integers(0, min(2, reach // 2))))
        extra.append(more)
    layer = KINDS[kind](
        out_channels=groups * draw(st.integers(1, 2)),
        kernel_size=kernel,
        stride=stride,
        padding=tuple(padding),
        output_padding=tuple(extra),
        groups=groups,
        bias=draw(st.booleans()),
        dilation=dilation,
    )  # type: ignore[call-arg]
    return layer, (shape,)


def _pool(draw: DrawFn, kind: str, rank: int) -> Case:
    least = 3 if kind == "AvgPool3d" else 1  # there torch takes no input smaller than the kernel, padded or not
    shape = _image(draw, rank, least, channels=2)
    fields = _kernel(draw, shape, dilated="Max" in kind, half=True)
    fields |= {"stride": draw(st.none() | st.tuples(*[st.integers(1, 3)] * rank)), "ceil_mode": draw(st.booleans())}
    if "Max" not in kind:
        del fields["dilation"]
        fields["count_include_pad"] = draw(st.booleans())
        if rank > 1:
            fields["divisor_override"] = draw(st.sampled_from([None, None, 1, 2, 4]))
    return KINDS[kind](**fields), (shape,)


def _power(draw: DrawFn, kind: str, rank: int) -> Case:
    shape = _image(draw, rank, channels=2)
    kernel = tuple(draw(st.integers(1, min(3, size))) for size in shape[2:])
    stride = draw(st.none() | st.tuples(*[st.integers(1, 3)] * rank))
    norm = draw(st.sampled_from([1.0, 2.0, 3, 4.0, math.inf, -math.inf]))
    return KINDS[kind](norm, kernel, stride, draw(st.booleans())), (shape,)  # type: ignore[call-arg]


def _adaptive(draw: DrawFn, kind: str, rank: int) -> Case:
    size = st.integers(1, 3) if rank == 1 else st.integers(1, 3) | st.none()
    return KINDS[kind](draw(st.tuples(*[size] * rank))), (_image(draw, rank, channels=2),)  # type: ignore[call-arg]


def _by_channel(draw: DrawFn, kind: str, rank: int) -> Case:
    rank = draw(st.integers(0, 1)) if kind == "BatchNorm1d" else rank
    shape = _image(draw, rank)
    affine, kept = draw(st.booleans()), draw(st.booleans())
    several = math.prod(shape[2:]) * (shape[0] if "Batch" in kind else 1) > 1
    fields = {"eps": draw(st.sampled_from([0.25, 0.5])), "affine": affine, "bias": draw(st.booleans())}
    return KINDS[kind](**fields, track_running_stats=kept or not several), (shape,)  # type: ignore[call-arg]


def _group_norm(draw: DrawFn, kind: str, rank: int) -> Case:
    shape = _image(draw, draw(st.integers(0, 3)))
    shape = (2, *shape[1:]) if math.prod(shape[2:]) == 1 else shape
    fields = {"affine": draw(st.booleans()), "bias": draw(st.booleans())}
    return KINDS[kind](num_groups=_groups(draw, shape[1]), **fields), (shape,)  # type: ignore[call-arg]


def _by_place(draw: DrawFn, kind: str, rank: int) -> Case:
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple))
    count = draw(st.integers(1, len(shape)))
    fields: dict[str, Any] = {"elementwise_affine": draw(st.booleans())}
    fields |= {"bias": draw(st.booleans())} if kind == "LayerNorm" else {"eps": draw(st.sampled_from([None, 0.5]))}
    return KINDS[kind](shape[-count:], **fields), (shape,)  # type: ignore[call-arg]


def _linear(draw: DrawFn, kind: str, rank: int) -> Case:
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6).map(tuple))
    return KINDS[kind](draw(st.integers(1, 5)), bias=draw(st.booleans())), (shape,)  # type: ignore[call-arg]


def _bilinear(draw: DrawFn, kind: str, rank: int) -> Case:
    layer, (shape,) = _linear(draw, kind, rank)
    return layer, (shape, (*shape[:-1], draw(st.integers(1, 4))))


def _local_response(draw: DrawFn, kind: str, rank: int) -> Case:
    shape = _image(draw, draw(st.integers(1, 3)))
    return KINDS[kind](draw(st.integers(1, 5)), 1.0, draw(st.sampled_from([0.75, 2.0])), 2.0), (shape,)  # type: ignore[call-arg]


_FAMILIES: dict[str, Callable[[DrawFn, str, int], Case]] = {
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "MaxPool": _pool,
    "AvgPool": _pool,
    "LPPool": _power,
    "AdaptiveAvgPool": _adaptive,
    "AdaptiveMaxPool": _adaptive,
    "BatchNorm": _by_channel,
    "InstanceNorm": _by_channel,
}
CASES: dict[str, Callable[[DrawFn, str, int], Case]] = {
    f"{name}{rank}d": case for name, case in _FAMILIES.items() for rank in (1, 2, 3)
} | {
    "Linear": _linear,
    "Bilinear": _bilinear,
    "GroupNorm": _group_norm,
    "LayerNorm": _by_place,
    "RMSNorm": _by_place,
    "LocalResponseNorm": _local_response,
}


@st.composite
def nd_cases(draw: DrawFn, kind: str) -> Case:
    """A layer of this kind and the shapes of inputs that it can take."""
    return CASES[kind](draw, kind, int(kind[-2]) if kind[-2].isdigit() else 0)
