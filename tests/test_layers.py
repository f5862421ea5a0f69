"""Layer kinds: what they accept, what they refuse and what they say about it; torch refuses the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archcalc import analyze
from archcalc.errors import ArchcalcError, ShapeError, SpecError
from archcalc.graph import Builder
from archcalc.layers import (
    KINDS,
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    Input,
    Layer,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    PadChannels,
    ReLU,
    Softmax,
    Subsample,
)
from tests.interpreter import module


def torch_shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that torch's module gives, on a CPU and on real numbers; None where it refuses."""
    try:
        reference = module(layer, [shape])
        assert reference is not None
        with torch.no_grad():
            return tuple(reference(torch.zeros(shape, dtype=torch.float64)).shape)
    except (RuntimeError, ValueError):
        return None


def archcalc_shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return layer.output(shape)
    except ShapeError:
        return None


small = st.integers(1, 5)
pairs = st.tuples(small, small)
images = st.tuples(st.just(1), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))


@given(images, small, pairs, pairs, st.tuples(st.integers(0, 3), st.integers(0, 3)), pairs, small, st.booleans())
def test_a_convolution_is_refused_where_torch_refuses_it(
    shape: tuple[int, ...], outs: int, taps: Any, stride: Any, padding: Any, dilation: Any, groups: int, bias: bool
) -> None:
    try:
        layer = Conv2d(outs, taps, stride, padding, dilation, groups, bias)
    except SpecError:
        assert outs % groups
        with pytest.raises(ValueError, match="divisible by groups"):
            torch.nn.Conv2d(groups, outs, taps, groups=groups)
        return
    assert archcalc_shape(layer, shape) == torch_shape(layer, shape)


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
@given(
    shape=images,
    taps=pairs,
    stride=st.none() | pairs,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    ceil=st.booleans(),
)
def test_a_pool_is_refused_where_torch_refuses_it(
    kind: Callable[..., Layer], shape: tuple[int, ...], taps: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> None:
    options: dict[str, Any] = {"stride": stride, "padding": padding, "ceil_mode": ceil}
    if kind is MaxPool2d:
        options["dilation"] = dilation
    try:
        layer = kind(taps, **options)
    except SpecError:
        assert any(2 * p > k for p, k in zip(padding, taps, strict=True))
        with pytest.raises(RuntimeError, match="pad should be"):
            getattr(torch.nn, "AvgPool2d" if kind is AvgPool2d else "MaxPool2d")(taps, **options)(
                torch.zeros(1, 1, 20, 20)
            )
        return
    assert archcalc_shape(layer, shape) == torch_shape(layer, shape)


# Fields

BAD_NUMBERS: list[Any] = [0, -1, 2.0, 1.5, True, "3", None, (3,), (3, 3, 3), (3, 0), (3, True), (3, 1.5), {3}]


@pytest.mark.parametrize("value", BAD_NUMBERS, ids=repr)
@pytest.mark.parametrize(
    ("kind", "field", "others"),
    [
        (Conv2d, "kernel_size", {"out_channels": 4}),
        (Conv2d, "stride", {"out_channels": 4, "kernel_size": 3}),
        (Conv2d, "dilation", {"out_channels": 4, "kernel_size": 3}),
        (MaxPool2d, "kernel_size", {}),
        (MaxPool2d, "dilation", {"kernel_size": 3}),
        (AvgPool2d, "kernel_size", {}),
        (AdaptiveAvgPool2d, "output_size", {}),
        (Subsample, "stride", {}),
    ],
)
def test_a_field_of_one_or_two_whole_numbers_refuses_anything_else(
    kind: type[Layer], field: str, others: dict[str, Any], value: Any
) -> None:
    with pytest.raises(SpecError, match=rf"{field} is .*; it must be a whole number or 2 of them, at least 1"):
        kind(**others, **{field: value})


@pytest.mark.parametrize("value", [0, -1, 2.0, 1.5, True, "3", None, (3,)], ids=repr)
@pytest.mark.parametrize(
    ("kind", "field", "others"),
    [
        (Conv2d, "out_channels", {"kernel_size": 3}),
        (Conv2d, "groups", {"out_channels": 4, "kernel_size": 3}),
        (Linear, "out_features", {}),
        (LocalResponseNorm, "size", {}),
        (PadChannels, "channels", {}),
    ],
)
def test_a_field_of_one_whole_number_refuses_anything_else(
    kind: type[Layer], field: str, others: dict[str, Any], value: Any
) -> None:
    with pytest.raises(SpecError, match=rf"{field} is .*; it must be a whole number of at least 1"):
        kind(**others, **{field: value})


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Conv2d, {"out_channels": 4, "kernel_size": 3, "padding": -1}, r"padding is -1; .* at least 0"),
        (Conv2d, {"out_channels": 4, "kernel_size": 3, "padding": "full"}, r"padding is 'full'"),
        (
            Conv2d,
            {"out_channels": 4, "kernel_size": 3, "padding": "same", "stride": 2},
            r"needs stride 1, not \(2, 2\)",
        ),
        (
            Conv2d,
            {"out_channels": 5, "kernel_size": 3, "groups": 2},
            r"out_channels \(=5\) must be divisible by groups \(=2\)",
        ),
        (MaxPool2d, {"kernel_size": 3, "padding": 2}, r"padding \(=2\) must be at most half of kernel_size \(=3\)"),
        (
            AvgPool2d,
            {"kernel_size": (4, 2), "padding": 2},
            r"padding \(=2\) must be at most half of kernel_size \(=2\)",
        ),
        (MaxPool2d, {"kernel_size": 3, "stride": 0}, r"stride is 0"),
        (Dropout, {"p": 1.5}, r"p is 1.5; a probability lies between 0 and 1"),
        (Dropout, {"p": -0.1}, r"p is -0.1"),
        (Dropout, {"p": "half"}, r"p is 'half'"),
        (LocalResponseNorm, {"size": 5, "beta": -1.0}, r"beta is -1.0; it must not be negative"),
        (Softmax, {"dim": 1.0}, r"dim is 1.0; it must be a whole number"),
        (Softmax, {"dim": True}, r"dim is True; it must be a whole number"),
        (Concat, {"dim": "channels"}, r"dim is 'channels'; it must be a whole number"),
    ],
)
def test_an_impossible_layer_is_refused(kind: type[Layer], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        kind(**arguments)


def test_one_number_stands_for_both_axes_as_in_torch() -> None:
    assert Conv2d(4, 3, padding="valid") == Conv2d(4, (3, 3), (1, 1), (0, 0), (1, 1))
    assert Conv2d(4, [3, 3]) == Conv2d(4, 3)  # type: ignore[arg-type]
    assert MaxPool2d(3) == MaxPool2d(3, stride=3)
    assert MaxPool2d((3, 2)) == MaxPool2d((3, 2), stride=(3, 2))
    assert Subsample(2) == Subsample((2, 2))
    assert hash(Conv2d(4, 3)) == hash(Conv2d(4, (3, 3)))


# What flows in


@pytest.mark.parametrize(
    ("shape", "layer", "fragments"),
    [
        ((1, 3, 5, 9), Conv2d(4, 7), ["1×3×5×9", "kernel that spans 7", "height 5 + 0 + 0 = 5"]),
        ((1, 3, 9, 5), Conv2d(4, 7), ["1×3×9×5", "kernel that spans 7", "width 5 + 0 + 0 = 5"]),
        # three taps at distance 4 span 2·4 + 1 = 9
        ((1, 3, 9, 6), Conv2d(4, 3, dilation=4, padding=1), ["spans 9", "width 6 + 1 + 1 = 8"]),
        ((1, 3, 2, 2), MaxPool2d(3), ["1×3×2×2", "spans 3", "height 2 + 0 + 0 = 2"]),
        ((1, 3, 2, 2), AvgPool2d(5, stride=2, ceil_mode=True), ["spans 5", "height 2"]),
        ((1, 3, 9, 9), Conv2d(4, 3, groups=2), ["1×3×9×9", "channels in (=3)", "divisible by groups (=2)"]),
        ((1, 3), Conv2d(4, 3), ["1×3", "needs an input of 4 axes (N, C, H, W), not 2"]),
        ((1, 3), BatchNorm2d(), ["needs an input of 4 axes"]),
        ((1, 3), MaxPool2d(2), ["needs an input of 4 axes"]),
        ((1, 3), AvgPool2d(2), ["needs an input of 4 axes"]),
        ((1, 3), AdaptiveAvgPool2d(2), ["needs an input of 4 axes"]),
        ((1, 3), Subsample(2), ["needs an input of 4 axes"]),
        ((1, 3), PadChannels(2), ["needs an input of 4 axes"]),
        ((1, 3), Softmax(2), ["1×3", "dim (=2) is not an axis of an input of 2 axes"]),
        ((1, 3), Softmax(-3), ["dim (=-3) is not an axis"]),
    ],
)
def test_a_layer_that_cannot_take_its_input_says_which_shape_and_why(
    shape: tuple[int, ...], layer: Layer, fragments: list[str]
) -> None:
    builder = Builder("net", shape)
    builder.add(layer, "block.odd")
    with pytest.raises(ShapeError) as caught:
        analyze(builder.network())
    for fragment in ["block.odd", layer.kind, *fragments]:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "second", "fragments"),
    [
        (Add(), Conv2d(5, 1), ["1×4×9×9 and 1×5×9×9", "inputs to add must have the same shape"]),
        (Add(), Conv2d(4, 3), ["1×4×9×9 and 1×4×7×7", "inputs to add must have the same shape"]),
        (Add(), Flatten(), ["1×4×9×9 and 1×243", "inputs to add must have the same shape"]),  # 3·9·9 = 243
        (Concat(), Conv2d(4, 3), ["1×4×9×9 and 1×4×7×7", "join along axis 1", "agree on axis 2"]),
        (Concat(-1), Conv2d(5, 1), ["1×4×9×9 and 1×5×9×9", "join along axis 3", "agree on axis 1"]),
        (Concat(), Flatten(), ["1×4×9×9 and 1×243", "the same rank"]),
        (Concat(4), Conv2d(4, 1), ["join along axis 4 must all have that axis"]),
        (Concat(-5), Conv2d(4, 1), ["join along axis -5 must all have that axis"]),
    ],
)
def test_branches_that_do_not_fit_are_named_with_their_shapes(
    layer: Layer, second: Layer, fragments: list[str]
) -> None:
    builder = Builder("net", (1, 3, 9, 9))
    source = builder.last
    one, two = builder.add(Conv2d(4, 1), after=source), builder.add(second, after=source)
    builder.add(layer, "join", after=(one, two))
    with pytest.raises(ShapeError) as caught:
        analyze(builder.network())
    for fragment in ["join", layer.kind, *fragments]:
        assert fragment in str(caught.value)


# The registry


def test_a_kind_cannot_be_defined_twice() -> None:
    with pytest.raises(SpecError, match=r"already a layer kind called ReLU, in archcalc\.layers\.activation"):
        type("ReLU", (Layer,), {"__slots__": (), "__module__": "elsewhere"})
    assert KINDS["ReLU"] is ReLU


def test_private_kinds_are_not_listed() -> None:
    assert not [name for name in KINDS if name.startswith("_")]
    assert all(kind.__name__ == name for name, kind in KINDS.items())


def test_every_error_is_an_archcalc_error() -> None:
    assert issubclass(SpecError, ArchcalcError)
    assert issubclass(ShapeError, ArchcalcError)


def test_in_place_layers_write_no_new_activations() -> None:
    places = {layer.kind: layer.in_place for layer in (ReLU(), Flatten(), Dropout(), Subsample(2), Add(), Softmax())}
    assert places == {
        "ReLU": False, "Flatten": True, "Dropout": True, "Subsample": True, "Add": False, "Softmax": False,
    }  # fmt: skip
    assert ReLU(inplace=True).in_place
    assert Add(inplace=True).in_place
    assert Input((1, 2)).output() == (1, 2)
