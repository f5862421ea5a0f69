"""Hypothesis strategies for shapes, layers of every kind, and networks; whatever they draw is valid.

A network is valid for its own input and, since its branches agree at every size, for every larger image too.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from archcalc import layers as kinds
from archcalc.extents import Shape
from archcalc.graph import Builder, Network
from archcalc.layers import Layer

Pair = tuple[int, int]


def public_kinds() -> dict[str, type[Layer]]:
    """Every layer kind that archcalc has and counts; what tests define for themselves is not among them."""
    return {
        name: kind
        for name, kind in kinds.KINDS.items()
        if kind.__module__.startswith("archcalc.layers.")
        and not kind.__module__.startswith("archcalc.layers.operation")
    }


@st.composite
def shapes(draw: DrawFn, *, most: int = 7, channels: int = 6, batch: int = 3) -> Shape:
    """The shape of a batch of small images: (N, C, H, W)."""
    whole = st.integers
    return draw(st.tuples(whole(1, batch), whole(1, channels), whole(1, most), whole(1, most)))


# Windows


def _taps_padding(draw: DrawFn, size: int, most: int = 4) -> Pair:
    """Taps and a padding of at most half of them that fit on `size` positions."""
    taps = draw(st.integers(1, most))
    return taps, draw(st.integers(max(0, -(-(taps - size) // 2)), taps // 2))


def _dilation(draw: DrawFn, room: int, taps: int, most: int = 3) -> int:
    """A dilation with which that many taps span at most `room` positions."""
    return draw(st.integers(1, max(1, min(most, (room - 1) // (taps - 1))))) if taps > 1 else draw(st.integers(1, most))


def _pair(draw: DrawFn, first: int, second: int) -> int | Pair:
    """Both numbers, or one of them for both axes where they are equal."""
    return first if first == second and draw(st.booleans()) else (first, second)


def _conv(draw: DrawFn, shape: Shape) -> Layer:
    groups = draw(st.sampled_from([g for g in range(1, shape[1] + 1) if shape[1] % g == 0]))
    outs = groups * draw(st.integers(1, 3))
    bias = draw(st.booleans())
    if draw(st.booleans()):
        taps, dilation = draw(st.tuples(*[st.integers(1, 4)] * 2)), draw(st.tuples(*[st.integers(1, 3)] * 2))
        return kinds.Conv2d(outs, taps, padding="same", dilation=dilation, groups=groups, bias=bias)
    (r, p), (s, q) = (_taps_padding(draw, size) for size in shape[2:])
    dilations = _dilation(draw, shape[2] + 2 * p, r), _dilation(draw, shape[3] + 2 * q, s)
    return kinds.Conv2d(
        outs,
        _pair(draw, r, s),
        stride=_pair(draw, *draw(st.tuples(*[st.integers(1, 3)] * 2))),
        padding=_pair(draw, p, q),
        dilation=_pair(draw, *dilations),
        groups=groups,
        bias=bias,
    )


def _pool(draw: DrawFn, shape: Shape) -> dict[str, Any]:
    (r, p), (s, q) = (_taps_padding(draw, size) for size in shape[2:])
    stride = draw(st.none() | st.tuples(*[st.integers(1, 3)] * 2))
    return {"kernel_size": (r, s), "stride": stride, "padding": (p, q), "ceil_mode": draw(st.booleans())}


def _max_pool(draw: DrawFn, shape: Shape) -> Layer:
    pool = _pool(draw, shape)
    (r, s), (p, q) = pool["kernel_size"], pool["padding"]
    dilation = _dilation(draw, shape[2] + 2 * p, r), _dilation(draw, shape[3] + 2 * q, s)
    return kinds.MaxPool2d(dilation=dilation, **pool)


def _avg_pool(draw: DrawFn, shape: Shape) -> Layer:
    return kinds.AvgPool2d(count_include_pad=draw(st.booleans()), **_pool(draw, shape))


def _adaptive(draw: DrawFn, shape: Shape) -> Layer:
    return kinds.AdaptiveAvgPool2d(_pair(draw, *draw(st.tuples(*[st.integers(1, 4)] * 2))))


def _batch_norm(draw: DrawFn, shape: Shape) -> Layer:
    # With eps 1/4 and 1/2 there are variances for which 1/sqrt(variance + eps) is exact.
    eps = draw(st.sampled_from([0.25, 0.5]))
    # torch takes no variance of a single value.
    single = shape[0] * shape[2] * shape[3] == 1
    return kinds.BatchNorm2d(
        eps, affine=draw(st.booleans()), track_running_stats=single or not draw(st.sampled_from([False] * 3 + [True]))
    )


def _local_response_norm(draw: DrawFn, shape: Shape) -> Layer:
    alpha, beta, k = draw(st.tuples(st.sampled_from([1e-4, 1.0]), st.sampled_from([0.75, 0.5, 2.0]), st.just(2.0)))
    return kinds.LocalResponseNorm(draw(st.integers(1, 5)), alpha, beta, k)


_LAYERS: dict[str, Callable[[DrawFn, Shape], Layer]] = {
    "ReLU": lambda draw, shape: kinds.ReLU(inplace=draw(st.booleans())),
    "Conv2d": _conv,
    "MaxPool2d": _max_pool,
    "AvgPool2d": _avg_pool,
    "BatchNorm2d": _batch_norm,
    "LocalResponseNorm": _local_response_norm,
    "AdaptiveAvgPool2d": _adaptive,
    "Dropout": lambda draw, shape: kinds.Dropout(draw(st.sampled_from([0.5, 0.1])), inplace=draw(st.booleans())),
    "Softmax": lambda draw, shape: kinds.Softmax(draw(st.integers(-len(shape), len(shape) - 1))),
    "Flatten": lambda draw, shape: kinds.Flatten(),
    "Linear": lambda draw, shape: kinds.Linear(draw(st.integers(1, 8)), bias=draw(st.booleans())),
    "Subsample": lambda draw, shape: kinds.Subsample(_pair(draw, *draw(st.tuples(*[st.integers(1, 3)] * 2)))),
    "PadChannels": lambda draw, shape: kinds.PadChannels(draw(st.integers(1, 4))),
    "Add": lambda draw, shape: kinds.Add(inplace=draw(st.booleans())),
    "Concat": lambda draw, shape: kinds.Concat(draw(st.integers(-len(shape), len(shape) - 1))),
    "Input": lambda draw, shape: kinds.Input(shape),
}


@st.composite
def layers(draw: DrawFn, kind: str, shape: Shape) -> Layer:
    """A layer of this kind that can take an input of this shape."""
    return _LAYERS[kind](draw, shape)


@st.composite
def cases(draw: DrawFn, kind: str, *, most: int = 6) -> tuple[Layer, tuple[Shape, ...]]:
    """A layer of this kind and the shapes of inputs that it can take."""
    shape = draw(shapes(most=most, channels=4, batch=2))
    if kind == "Linear" or (kind in ("ReLU", "Softmax", "Add", "Concat", "Flatten") and draw(st.booleans())):
        shape = shape[:2]
    layer = draw(layers(kind, shape))
    if layer.inputs is not None:
        return layer, (shape,) * layer.inputs
    count = draw(st.integers(2, 4))
    if not isinstance(layer, kinds.Concat):
        return layer, (shape,) * count
    dim = layer.dim % len(shape)
    return layer, tuple((*shape[:dim], draw(st.integers(1, 4)), *shape[dim + 1 :]) for _ in range(count))


# Networks

_CHAIN: tuple[str, ...] = ("ReLU", "Conv2d", "MaxPool2d", "AvgPool2d", "BatchNorm2d", "LocalResponseNorm", "Dropout")
_CHAIN += ("Subsample", "PadChannels", "AdaptiveAvgPool2d", "Softmax")
_VECTOR = ("Linear", "ReLU", "Dropout", "Softmax")
_BLOCKS = ("chain", "residual", "inception", "shortcut A")


class _Writer:
    """A builder that knows the shape of whatever it has added."""

    def __init__(self, draw: DrawFn, shape: Shape):
        self.draw = draw
        self.builder = Builder("random", shape)
        self.shapes: dict[str, Shape] = {self.builder.last: shape}

    @property
    def last(self) -> str:
        return self.builder.last

    def shape(self, name: str | None = None) -> Shape:
        return self.shapes[name or self.last]

    def add(self, layer: Layer, *after: str) -> str:
        sources = after or (self.last,)
        name = self.builder.add(layer, f"{layer.kind.lower()}{len(self.shapes)}", after=sources)
        self.shapes[name] = layer.output(*(self.shapes[source] for source in sources))
        return name

    def any(self, kinds_: tuple[str, ...]) -> str:
        kind = self.draw(st.sampled_from(kinds_))
        return self.add(_LAYERS[kind](self.draw, self.shape()))

    def step(self, source: str, stride: int, channels: int | None) -> str:
        """A layer with ⌈size/stride⌉ outputs at every size; with `channels` it has that many."""
        taps, dilation = self.draw(st.sampled_from([1, 3, 5])), self.draw(st.integers(1, 2))
        window: dict[str, Any] = {"kernel_size": taps, "stride": stride, "padding": taps // 2}
        kind = 0 if channels is not None else self.draw(st.integers(0, 3))
        if kind == 0:
            window |= {"dilation": dilation, "padding": dilation * (taps // 2)}
            if stride == 1 and self.draw(st.booleans()):
                window |= {"padding": "same", "kernel_size": self.draw(st.tuples(*[st.integers(1, 4)] * 2))}
            outs = channels or self.draw(st.integers(1, 6))
            return self.add(kinds.Conv2d(outs, **window, bias=self.draw(st.booleans())), source)
        if kind == 3:
            return self.add(kinds.Subsample(stride), source)
        return self.add(kinds.MaxPool2d(**window) if kind == 1 else kinds.AvgPool2d(**window), source)

    def elementwise(self) -> None:
        for _ in range(self.draw(st.integers(0, 2))):
            kind = self.draw(st.sampled_from(["ReLU", "BatchNorm2d", "LocalResponseNorm", "Dropout"]))
            self.add(_LAYERS[kind](self.draw, self.shape()))

    def residual(self) -> None:
        """Convolutions around which the input is passed on, and their sum."""
        source, stride = self.last, self.draw(st.integers(1, 2))
        keep = stride == 1 and self.draw(st.booleans())
        channels = self.shape()[1] if keep else self.draw(st.integers(1, 6))
        self.step(source, stride, channels)
        self.elementwise()
        branch = self.last
        if self.draw(st.booleans()):
            branch = self.step(branch, 1, channels)
        shortcut = source if keep else self.step(source, stride, channels)
        extra = (branch,) if self.draw(st.booleans()) else ()
        self.add(kinds.Add(inplace=not extra and self.draw(st.booleans())), branch, shortcut, *extra)

    def inception(self) -> None:
        """Branches of any kind that step alike, and their concatenation along the channels."""
        source, stride = self.last, self.draw(st.integers(1, 2))
        ends = []
        for _ in range(self.draw(st.integers(2, 3))):
            self.step(source, stride, None)
            self.elementwise()
            ends.append(self.last)
        if stride == 1 and self.draw(st.booleans()):
            ends.append(source)
        self.add(kinds.Concat(self.draw(st.sampled_from([1, -3]))), *ends)

    def shortcut_a(self) -> None:
        """A residual block whose shortcut has no weights: every other row and column, and channels of zeros."""
        source, more = self.last, self.draw(st.integers(1, 3))
        branch = self.step(source, 2, self.shape()[1] + more)
        self.add(kinds.Subsample(2), source)
        shortcut = self.add(kinds.PadChannels(more))
        self.add(kinds.Add(), branch, shortcut)


@st.composite
def networks(
    draw: DrawFn, *, most: int = 12, blocks: int = 5, kinds_: tuple[str, ...] = _CHAIN, head: bool = True
) -> Network:
    """A chain or graph of layers of all kinds on small images, perhaps with a classifier on vectors at its end.

    `most` bounds the image's sides, `blocks` the number of blocks, `kinds_` is what chains are made of.
    """
    writer = _Writer(draw, draw(shapes(most=most, channels=4)))
    for _ in range(draw(st.integers(0, blocks))):
        block = draw(st.sampled_from(_BLOCKS))
        if block == "chain":
            writer.any(kinds_)
        elif block == "residual":
            writer.residual()
        elif block == "inception":
            writer.inception()
        else:
            writer.shortcut_a()
    end = draw(st.sampled_from(["", "flatten", "pool"])) if head else ""
    if end == "pool":
        writer.any(("AdaptiveAvgPool2d",))
    if end:
        writer.add(kinds.Flatten())
        for _ in range(draw(st.integers(0, 3))):
            writer.any(_VECTOR)
        if draw(st.booleans()):
            first = writer.add(kinds.Linear(draw(st.integers(1, 4))))
            second = writer.add(kinds.Linear(writer.shape()[1]), first)
            writer.add(draw(st.sampled_from([kinds.Add(), kinds.Concat()])), first, second)
    return writer.builder.network()


@st.composite
def chains(draw: DrawFn, *, most: int = 12, steps: int = 5) -> Network:
    """A chain of layers that look through windows."""
    writer = _Writer(draw, draw(shapes(most=most, channels=2)))
    for _ in range(draw(st.integers(0, steps))):
        writer.any(("Conv2d", "MaxPool2d", "AvgPool2d", "Subsample", "ReLU"))
    return writer.builder.network()
