"""Receptive fields against the pixels that real modules' outputs depend on, found by running them backward."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from archcalc import analyze, zoo
from archcalc.errors import InputError, ShapeError, SpecError
from archcalc.fields import layer_fields, pixels
from archcalc.graph import Builder, Network
from archcalc.layers import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Hardtanh,
    Layer,
    MaxPool2d,
    ReLU6,
)
from archcalc.pytorch.gradients import Probe
from archcalc.rewrite import width

CONVOLUTIONAL = [
    name for name, entry in zoo.ENTRIES.items() if any(node.layer.kind.endswith("Pool2d") for node in entry.build())
]
WINDOWS = ("Conv2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "Concat", "Add", "Linear")


def narrow(name: str) -> Network:
    """The network of the zoo with a sixteenth of its widths: the same windows, quickly run."""
    network = zoo.ENTRIES[name].build()
    try:
        return width(network, 1 / 16)
    except SpecError:  # LeNet-5's table of connections has its own widths
        return network


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_outputs_depend_on_exactly_the_pixels_said(name: str) -> None:
    network = narrow(name)
    batch, channels, *sides = network.input_nodes[0].layer.output()
    smaller = (batch, channels, *(min(side, 96) for side in sides)) if name != "googlenet" else None  # its pool is 7×7
    probe = Probe(network, smaller)
    known = pixels(probe.report)
    rows = [row for row in probe.report if row.kind in WINDOWS]
    for row in [*random.Random(0).sample(rows, min(8, len(rows))), probe.report.rows[-1]]:
        assert known[row.name].exact
        corners: tuple[tuple[int, ...], ...] = ((),)
        if places := row.output[2:]:
            corners = ((0, 0), (places[0] // 2, places[1] // 3), (places[0] - 1, places[1] - 1))
        for position in dict.fromkeys(corners):
            assert probe.pixels(row.name, position) == known[row.name].at(position or (0, 0)), (row.name, position)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("alexnet", "conv3"),
        ("vgg16", "pool4"),
        ("vgg19", "conv4_4"),
        ("googlenet", "inception3b.concat"),
        ("resnet18", "layer2.1.add"),
        ("mobilenet-v1", "block7.pointwise"),
    ],
)
def test_inside_the_image_size_step_and_start_are_those_of_the_recurrence(name: str, layer: str) -> None:
    network = narrow(name)
    probe = Probe(network)
    (field,) = (field for field in layer_fields(probe.report) if field.row.name == layer)
    assert field.exact
    assert field.jump
    assert field.padding
    assert field.start
    places, sides = field.row.output[2:], probe.report.input[2:]
    inside = next(
        i
        for i in range(places[0] - 1)
        if i * field.jump[0] >= field.padding[0][0]
        and (i + 1) * field.jump[0] - field.padding[0][0] + field.size[0] <= sides[0]
    )
    for i in (inside, inside + 1):
        seen = probe.pixels(layer, (i, inside))[0]
        assert seen[-1] - seen[0] + 1 == field.size[0]
        assert (seen[0] + seen[-1]) / 2 == field.start[0] + i * field.jump[0]


@st.composite
def windows(draw: DrawFn) -> Network:
    """A few windows of any kind, one after the other, perhaps with another way around the last."""
    small = st.integers(1, 3)
    builder = Builder("windows", (1, 1, draw(st.integers(4, 11)), draw(st.integers(4, 11))))
    for _ in range(draw(st.integers(1, 3))):
        size, stride, dilation = draw(small), draw(small), draw(small)
        padding = draw(st.integers(0, size // 2))
        bins, ceil = draw(small), draw(st.booleans())
        layers: tuple[Layer, ...] = (
            Conv2d(1, size, stride=stride, padding=padding, dilation=dilation, bias=False),
            ConvTranspose2d(1, size, stride, padding, dilation=dilation),
            MaxPool2d(size, stride, padding, dilation, ceil_mode=ceil),
            AvgPool2d(size, stride, padding, ceil_mode=ceil),
            AdaptiveAvgPool2d((stride, bins)),
        )
        layer, before = draw(st.sampled_from(layers)), builder.last
        shape = analyze(builder.network()).rows[-1].output
        try:
            layer.output(shape)
        except ShapeError:
            continue
        builder.add(layer)
        if analyze(builder.network()).rows[-1].output[2:] == shape[2:] and draw(st.booleans()):
            builder.add(Add(), after=(before, builder.last))
        if draw(st.booleans()):
            builder.add(ReLU6())
    return builder.network()


@settings(max_examples=60)
@given(windows())
def test_windows_of_every_kind(network: Network) -> None:
    probe = Probe(network)
    known = pixels(probe.report)
    for row in probe.report:
        for i in range(row.output[2]):
            for j in {0, i % row.output[3], row.output[3] - 1}:
                if known[row.name].exact:
                    assert probe.pixels(row.name, (i, j)) == known[row.name].at((i, j))


def test_a_position_there_is_not() -> None:
    probe = Probe(Network.sequential("net", (1, 1, 5, 5), [Conv2d(1, 3)]))
    assert probe.pixels("input", (4, 0)) == ((4,), (0,))
    for position in ((3, 0), (0,), (-1, 0)):
        with pytest.raises(InputError, match=r"conv2d1 has no output at \(.*\): its outputs are \(3, 3\)"):
            probe.pixels("conv2d1", position)


def test_a_gradient_that_hides_a_dependence_is_replaced() -> None:
    # the image is positive: above 0.01 everywhere, where Hardtanh is flat; and a maximum has one gradient
    probe = Probe(Network.sequential("net", (1, 1, 9, 9), [Hardtanh(-1, 0.01), MaxPool2d(3, 1)]))
    assert set(probe.outputs["hardtanh1"].flatten().tolist()) == {0.01}
    assert probe.pixels("maxpool2d1", (2, 3)) == ((2, 3, 4), (3, 4, 5))
