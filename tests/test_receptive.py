"""Receptive fields, against sets of pixels found by walking back from an output, and against torch's gradients."""

from collections.abc import Iterable
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from archcalc import analyze
from archcalc.analysis import Report
from archcalc.graph import Builder, Network, Node
from archcalc.layers import AdaptiveAvgPool2d, Add, Concat, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Subsample
from archcalc.nest import Window
from archcalc.receptive import Field
from tests.strategies import chains, networks


def seen_by(report: Report, node: Node, axis: int, positions: Iterable[int], *, real: bool = False) -> set[int]:
    """Input positions along an axis (0 height, 1 width) that a node's outputs at some positions see.

    Positions that do not exist, before 0 or past the end, are walked back like others, unless `real` ones are wanted.
    """
    row = report[node.name]
    here = set(positions)
    if real:
        here = {position for position in here if 0 <= position < row.output[axis + 2]}
    if not node.inputs:
        return here
    layer: Any = node.layer
    size = row.inputs[0][axis + 2] if len(row.inputs[0]) > 2 else 1
    if node.layer.kind in ("Conv2d", "MaxPool2d", "AvgPool2d"):
        taps, stride, dilation = layer.kernel_size[axis], layer.stride[axis], getattr(layer, "dilation", (1, 1))[axis]
        before = (taps - 1) * dilation // 2 if layer.padding == "same" else layer.padding[axis]
        here = {position * stride - before + tap * dilation for position in here for tap in range(taps)}
    elif node.layer.kind == "Subsample":
        here = {position * layer.stride[axis] for position in here}
    elif node.layer.kind == "AdaptiveAvgPool2d":
        taps = size // layer.output_size[axis]  # known to divide where this is used
        here = {position * taps + tap for position in here for tap in range(taps)}
    elif node.layer.kind == "Flatten" and len(row.inputs[0]) > 2:
        here = set(range(size))
    return set().union(*(seen_by(report, report.network[n], axis, here, real=real) for n in node.inputs))


@given(chains())
def test_the_field_of_a_chain_is_what_its_windows_see(network: Network) -> None:
    report = analyze(network)
    for row in report:
        assert row.receptive_field == tuple(field.size for field in row.fields if field)
        assert row.jump == tuple(field.jump for field in row.fields if field)
        for axis, field in enumerate(row.fields):
            assert field is not None
            for i in (0, 1, 2, row.output[axis + 2] - 1):
                seen = seen_by(report, row.node, axis, [i])
                start = field.first + i * field.jump
                assert (min(seen), max(seen)) == (start, start + field.size - 1)


@given(chains(most=30))
def test_a_field_inside_the_image_is_exactly_the_pixels_that_matter(network: Network) -> None:
    report = analyze(network)
    row = report.rows[-1]
    for axis, field in enumerate(row.fields):
        assert field is not None
        size = report.input[axis + 2]
        for i in range(row.output[axis + 2]):
            seen = seen_by(report, row.node, axis, [i], real=True)
            start = field.first + i * field.jump
            inside = start >= 0 and start + field.size <= size
            if inside:
                assert (min(seen), max(seen)) == (start, start + field.size - 1)
            assert seen <= set(range(start, start + field.size))


@given(networks(most=10, blocks=4))
def test_the_field_of_a_graph_is_the_union_of_what_its_branches_see(network: Network) -> None:
    report = analyze(network)
    uneven: set[str] = set()
    for row in report:
        sources = [report[name] for name in row.node.inputs]
        for axis, field in enumerate(row.fields):
            bins = row.node.layer.output_size[axis] if isinstance(row.node.layer, AdaptiveAvgPool2d) else 1  # type: ignore[index]
            # An axis is given up where bins do not divide it or branches do not step alike, and never again known.
            jumps = {source.fields[axis].jump for source in sources if source.fields[axis]}  # type: ignore[union-attr]
            lost = any(source.fields[axis] is None for source in sources) or len(jumps) > 1
            assert bins is not None
            lost = lost or (bins > 1 and row.inputs[0][axis + 2] % bins != 0)
            assert (field is None) == lost
            if field is None:
                uneven.add(row.name)
                continue
            for i in (0, 1, row.output[axis + 2] - 1) if len(row.output) > 2 else (0,):
                seen = seen_by(report, row.node, axis, [i])
                start = field.first + i * field.jump
                assert (min(seen), max(seen)) == (start, start + field.size - 1)
        assert (row.receptive_field is None) == (row.name in uneven)
        assert row.jump is None or len(row.output) == 4


def test_torch_gradients_reach_exactly_the_field() -> None:
    network = Network.sequential(
        "net", (1, 1, 41, 41), [Conv2d(1, 3, padding=1, dilation=2), MaxPool2d(3, 2), Conv2d(1, (5, 2), stride=2)]
    )
    row = analyze(network).rows[-1]
    image = torch.rand((1, 1, 41, 41), dtype=torch.float64, requires_grad=True)
    ones = torch.ones((1, 1, 1, 1), dtype=torch.float64)
    out = torch.nn.functional.conv2d(image, ones.expand(1, 1, 3, 3), padding=1, dilation=2)
    out = torch.nn.functional.avg_pool2d(out, 3, 2)  # a maximum has only one gradient
    out = torch.nn.functional.conv2d(out, ones.expand(1, 1, 5, 2), stride=2)
    assert tuple(out.shape) == row.output
    i, j = 3, 4
    (gradient,) = torch.autograd.grad(out[0, 0, i, j], image)
    rows, columns = gradient[0, 0].nonzero().unbind(1)
    for field, position, found in zip(row.fields, (i, j), (rows, columns), strict=True):
        assert field is not None
        start = field.first + position * field.jump
        assert (int(found.min()), int(found.max())) == (start, start + field.size - 1)


@pytest.mark.parametrize("layers", range(1, 9))
def test_stacked_convolutions_see_n_f_minus_n_plus_1(layers: int) -> None:
    F = sympy.Symbol("F", integer=True, positive=True)
    field = Field()
    for _ in range(layers):
        field = field.through(Window("P", "R"), F)
    assert sympy.expand(field.size - (layers * F - layers + 1)) == 0
    assert (field.jump, field.first) == (1, 0)
    stack = Network.sequential("net", (1, 1, 99, 99), [Conv2d(1, 5) for _ in range(layers)])
    assert analyze(stack).rows[-1].receptive_field == (5 * layers - layers + 1,) * 2


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 4), st.integers(1, 4))
def test_a_window_of_letters_is_the_window_of_their_numbers(r: int, s: int, d: int, p: int, r2: int, s2: int) -> None:
    R, S, D, P, R2, S2 = letters = sympy.symbols("R S D P R2 S2", integer=True, positive=True)
    values = dict(zip(letters, (r, s, d, p, r2, s2), strict=True))
    closed = Field().through(Window("P", "R", S, D, P, P), R).through(Window("P", "R", S2), R2)
    number = Field().through(Window("P", "R", s, d, p, p), r).through(Window("P", "R", s2), r2)
    assert tuple(sympy.sympify(part).subs(values) for part in closed) == number


def test_well_known_fields() -> None:
    # two 3×3 see 1 + 2 + 2 = 5, three see 7 (Simonyan & Zisserman 2014, section 2.3)
    for depth, size in ((1, 3), (2, 5), (3, 7)):
        net = Network.sequential("net", (1, 3, 224, 224), [Conv2d(8, 3, padding=1)] * depth)
        assert analyze(net).rows[-1].receptive_field == (size, size)
    # 7×7 stride 2, then 3×3 stride 2: 7 + 2·2 = 11, jump 2·2 = 4, first -3 - 1·2 = -5
    net = Network.sequential(
        "stem", (1, 3, 224, 224), [Conv2d(64, 7, stride=2, padding=3), MaxPool2d(3, stride=2, padding=1)]
    )
    row = analyze(net).rows[-1]
    assert row.fields == (Field(11, 4, -5),) * 2
    assert (row.receptive_field, row.jump) == ((11, 11), (4, 4))


def test_branches_see_the_union_and_unlike_steps_are_unknown() -> None:
    builder = Builder("net", (1, 4, 16, 16))
    source = builder.last
    wide = builder.add(Conv2d(4, 5, padding=2), after=source)
    builder.add(Concat(), "join", after=(wide, source))
    early = builder.add(Conv2d(4, 3), after=source)
    late = builder.add(Conv2d(4, 3, padding=2), after=builder.add(Conv2d(4, 3), after=source))
    report = analyze(builder.network())
    assert report["join"].fields == (Field(5, 1, -2),) * 2
    assert report[early].fields == (Field(3, 1, 0),) * 2
    assert report[late].fields == (Field(5, 1, -2),) * 2
    builder = Builder("net", (1, 4, 1, 1))
    source = builder.last
    builder.add(Add(), "add", after=(source, builder.add(Subsample(2), after=source)))
    row = analyze(builder.network())["add"]
    assert row.fields == (None, None)
    assert row.receptive_field is None
    assert row.jump is None


def test_a_classifier_sees_the_whole_image() -> None:
    net = Network.sequential("net", (1, 3, 8, 12), [Conv2d(4, 3, padding=1), ReLU(), Flatten(), Linear(5)])
    row = analyze(net).rows[-1]
    # 8 outputs of 3 pixels each at jump 1: 3 + 7 = 10, of which one on either side is padding; 3 + 11 = 14
    assert row.receptive_field == (10, 14)
    assert row.jump is None
    vector = analyze(Network.sequential("net", (1, 3), [Linear(5)])).rows[-1]
    assert vector.receptive_field is None


def test_bins_step_evenly_only_where_they_divide() -> None:
    for size, bins, fields in ((8, 4, Field(2, 2, 0)), (8, 1, Field(8, 8, 0)), (8, 8, Field(1, 1, 0)), (8, 3, None)):
        net = Network.sequential("net", (1, 3, size, size), [AdaptiveAvgPool2d(bins)])
        assert analyze(net).rows[-1].fields == (fields, fields)
    net = Network.sequential("net", (1, 3, 8, 8), [AdaptiveAvgPool2d(3), Conv2d(2, 2)])
    assert analyze(net).rows[-1].receptive_field is None
