"""Cases of activations, recurrent layers, embeddings, resampling and padding: layers with shapes that they take."""

import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from archcalc import layers as kinds
from archcalc.extents import Shape
from archcalc.layers import KINDS, Layer
from tests.more_programs import FORMULAS

DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
MOVED = frozenset({*DROPOUTS, "Identity", "Flatten"})
"""Kinds without nests."""

_NUMBER = st.sampled_from([0.25, 0.5, 1.0, 1.5])
_FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "Hardtanh": {"min_val": st.sampled_from([-2.0, 0.0]), "max_val": _NUMBER},
    "LeakyReLU": {"negative_slope": st.sampled_from([0.01, 0.2, 1.5, -1.0])},
    "RReLU": {"lower": st.just(0.25), "upper": st.just(0.75)},
    "Threshold": {"threshold": st.sampled_from([-1.0, 0.5]), "value": st.just(3.0)},
    "ELU": {"alpha": _NUMBER},
    "CELU": {"alpha": _NUMBER},
    "GELU": {"approximate": st.sampled_from(["none", "tanh"])},
    "Hardshrink": {"lambd": _NUMBER},
    "Softshrink": {"lambd": _NUMBER},
    "Softplus": {"beta": _NUMBER, "threshold": st.sampled_from([1.0, 20.0])},
}
_SMALL = st.integers(1, 4)


def _shape(draw: DrawFn, least: int, most: int) -> Shape:
    return draw(st.lists(st.integers(1, 3), min_size=least, max_size=most).map(tuple))


def _recurrent(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    fields: dict[str, Any] = {"hidden_size": draw(st.integers(2, 3)), "bias": draw(st.booleans())}
    if kind.startswith("RNN"):
        fields["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if kind.endswith("Cell"):
        return KINDS[kind](**fields), _shape(draw, 2, 2)
    fields |= {name: draw(st.booleans()) for name in ("batch_first", "bidirectional")}
    fields["num_layers"] = draw(st.integers(1, 2))
    fields["dropout"] = draw(st.sampled_from([0.0, 0.5])) if fields["num_layers"] > 1 else 0.0
    if kind == "LSTM":
        fields["proj_size"] = draw(st.integers(0, 1))
    return KINDS[kind](**fields), _shape(draw, 3, 3)


def _embedding(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    fields: dict[str, Any] = {"num_embeddings": draw(_SMALL), "embedding_dim": draw(_SMALL)}
    if kind == "EmbeddingBag":
        return kinds.EmbeddingBag(**fields, mode=draw(st.sampled_from(["sum", "mean", "max"]))), _shape(draw, 2, 2)
    return kinds.Embedding(**fields, padding_idx=draw(st.sampled_from([None, 0, -1]))), _shape(draw, 1, 3)


_RANKS = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def _resized(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    fields: dict[str, Any] = {}
    rank = 2
    if kind == "Upsample":
        fields["mode"] = mode = draw(st.sampled_from(["nearest", "nearest-exact", *_RANKS]))
        rank = _RANKS.get(mode) or draw(st.integers(1, 3))
        if mode in _RANKS:
            fields["align_corners"] = draw(st.sampled_from([None, True, False]))
    if draw(st.booleans()):
        fields["size"] = draw(st.integers(1, 4) | st.tuples(*[st.integers(1, 4)] * rank))
    else:
        factor = st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.5, 0.7, 1.1])
        fields["scale_factor"] = draw(factor | st.tuples(*[factor] * rank))
        if kind == "Upsample":
            fields["recompute_scale_factor"] = draw(st.sampled_from([None, True]))
    return KINDS[kind](**fields), (*_shape(draw, 2, 2), *draw(st.tuples(*[st.integers(2, 4)] * rank)))


def _rearranged(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    r, outer, (C, H, W) = draw(st.integers(1, 3)), _shape(draw, 0, 2), _shape(draw, 3, 3)
    if kind == "PixelShuffle":
        return kinds.PixelShuffle(r), (*outer, C * r * r, H, W)
    if kind == "PixelUnshuffle":
        return kinds.PixelUnshuffle(r), (*outer, C, H * r, W * r)
    return kinds.ChannelShuffle(r), (H, C * r, *_shape(draw, 1, 3))


def _padded(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    rank = int(kind[-2])
    constant = kind.startswith(("Zero", "Constant"))
    lowest = -1 if constant else 0
    shape = (*_shape(draw, 0 if constant else 1, 2), *draw(st.tuples(*[st.integers(3, 4)] * rank)))
    padding = draw(st.integers(lowest, 2) | st.tuples(*[st.integers(lowest, 2)] * (2 * rank)))
    return (KINDS[kind](padding, 3.5) if kind.startswith("Constant") else KINDS[kind](padding)), shape  # type: ignore[call-arg]


def _unflattened(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    sizes, shape = _shape(draw, 1, 3), _shape(draw, 1, 3)
    dim = draw(st.integers(-len(shape), len(shape) - 1))
    at = dim % len(shape)
    whole = (*shape[:at], math.prod(sizes), *shape[at + 1 :])
    hidden = draw(st.integers(-1, len(sizes) - 1))
    return kinds.Unflatten(dim, tuple(-1 if i == hidden else size for i, size in enumerate(sizes))), whole


def _activation(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    fields: dict[str, Any] = {name: draw(strategy) for name, strategy in _FIELDS.get(kind, {}).items()}
    shape = _shape(draw, 1, 6)
    if kind == "PReLU":
        fields["num_parameters"] = draw(st.sampled_from([1, shape[1]])) if len(shape) > 1 else 1
    if kind == "GLU":
        fields["dim"] = draw(st.integers(-len(shape), len(shape) - 1))
        dim = fields["dim"] % len(shape)
        shape = (*shape[:dim], 2 * shape[dim], *shape[dim + 1 :])
    if "inplace" in KINDS[kind].__dataclass_fields__:
        fields["inplace"] = draw(st.booleans())
    return KINDS[kind](**fields), shape


def _along(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    if kind == "Softmax2d":
        return kinds.Softmax2d(), _shape(draw, 3, 4)
    shape = _shape(draw, 1, 5)
    return KINDS[kind](draw(st.integers(-len(shape), len(shape) - 1))), shape  # type: ignore[call-arg]


def _flattened(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    shape = _shape(draw, 2, 5)
    first, last = sorted(draw(st.tuples(*[st.integers(0, len(shape) - 1)] * 2)))
    down = draw(st.booleans())
    return kinds.Flatten(first - len(shape) * down, last - len(shape) * (not down)), shape


def _passed(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    ranks = {"Dropout1d": (2, 3), "Dropout2d": (4, 4), "Dropout3d": (4, 5)}.get(kind, (1, 5))
    return (kinds.Identity() if kind == "Identity" else KINDS[kind](p=0.3)), _shape(draw, *ranks)  # type: ignore[call-arg]


_FAMILIES: dict[Callable[[DrawFn, str], tuple[Layer, Shape]], tuple[str, ...]] = {
    _activation: tuple(FORMULAS),
    _along: ("Softmax", "Softmin", "Softmax2d", "LogSoftmax"),
    _recurrent: ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"),
    _embedding: ("Embedding", "EmbeddingBag"),
    _resized: ("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"),
    _rearranged: ("PixelShuffle", "PixelUnshuffle", "ChannelShuffle"),
    _padded: tuple(name for name in KINDS if name[:-2].endswith("Pad")),
    _unflattened: ("Unflatten",),
    _flattened: ("Flatten",),
    _passed: (*DROPOUTS, "Identity"),
}
CASES = {kind: family for family, names in _FAMILIES.items() for kind in names}
"""What draws a layer of each kind and a shape that it takes."""


@st.composite
def more_cases(draw: DrawFn, kind: str) -> tuple[Layer, Shape]:
    """A layer of this kind and the shape of an input that it can take."""
    return CASES[kind](draw, kind)
