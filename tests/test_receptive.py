"""Receptive fields, against sets of pixels found by walking back from an output, and against torch's gradients."""

from collections.abc import Iterable
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from archcalc import analyze, zoo
from archcalc.analysis import Report
from archcalc.cli import main
from archcalc.errors import InputError
from archcalc.fields import Seen, layer_fields, pixels, receptive_record, receptive_table, stack
from archcalc.graph import Builder, Network, Node
from archcalc.layers import (
    AdaptiveAvgPool2d,
    Add,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Embedding,
    Flatten,
    GroupNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Subsample,
    Upsample,
)
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
        here &= set(range(row.output[axis + 2] if len(row.output) > 2 else 1))
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
        bins = layer.output_size[axis]
        here = {pixel for i in here for pixel in range(size) if i * size // bins <= pixel < -(-(i + 1) * size // bins)}
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


# Which pixels


@given(networks(most=10, blocks=4))
def test_pixels_are_those_found_by_walking_back_from_an_output(network: Network) -> None:
    report = analyze(network)
    known = pixels(report)
    for row in report:
        if not known[row.name].exact:  # only after branches met of which one has outputs that see nothing
            assert any(0 in axis for other in known.values() for axis in other.axes)
            continue
        places = row.output[2:] or (1, 1)
        for position in {(0, 0), (places[0] // 2, places[1] // 2), (places[0] - 1, places[1] - 1)}:
            walked = [seen_by(report, row.node, axis, [i], real=True) for axis, i in enumerate(position)]
            found = known[row.name].at(position)
            assert found is not None
            assert found == tuple(tuple(sorted(seen)) for seen in (walked if all(walked) else [set(), set()]))


@given(networks(most=10, blocks=4))
def test_no_output_sees_more_than_the_size_reported(network: Network) -> None:
    report = analyze(network)
    known = pixels(report)
    fields = layer_fields(report)
    assert [field.row.name for field in fields] == [row.name for row in report]
    for field in fields:
        if not known[field.row.name].exact:
            continue
        for size, masks in zip(field.size, known[field.row.name].axes, strict=True):
            spans = [mask.bit_length() - (mask & -mask).bit_length() + 1 for mask in masks if mask]
            assert max(spans, default=0) <= size
            if None in field.row.fields:
                assert max(spans, default=0) == size
        assert field.exact or None in field.row.fields


def test_holes_and_ends_of_the_image() -> None:
    # taps at -1, 1, 3 of which -1 is padding; then 1, 3, 5; 3, 5, 7; and 5, 7 and the padding at 9
    net = Network.sequential("net", (1, 1, 9, 9), [Conv2d(1, 3, padding=1, dilation=2, stride=2)])
    known = pixels(analyze(net))["conv2d1"]
    assert [known.at((i, 0)) for i in range(4)] == [
        ((1, 3), (1, 3)),
        ((1, 3, 5), (1, 3)),
        ((3, 5, 7), (1, 3)),
        ((5, 7), (1, 3)),
    ]
    assert known.at((4, 0)) is None
    assert known.at((0,)) is None
    # padding of 2 around a kernel of 1: the outermost outputs see nothing
    blind = pixels(analyze(Network.sequential("net", (1, 1, 3, 3), [Conv2d(1, 1, padding=2)])))["conv2d1"]
    assert blind.at((0, 3)) == ((), ())
    assert blind.at((2, 3)) == ((0,), (1,))


def test_a_transposed_convolution_alternates() -> None:
    # stride 2, 3 taps: even outputs get taps 0 and 2 of two inputs, odd ones tap 1 of one
    net = Network.sequential("net", (1, 1, 4, 4), [ConvTranspose2d(1, 3, stride=2)])
    report = analyze(net)
    field = layer_fields(report)[1]
    assert (field.size, field.exact, field.jump, field.start) == ((2, 2), False, None, None)
    seen = [pixels(report)["convtranspose2d1"].at((i, 0)) for i in range(9)]
    assert [found[0] for found in seen if found] == [(0,), (0,), (0, 1), (1,), (1, 2), (2,), (2, 3), (3,), (3,)]
    # with stride 1 it is a convolution with the kernel turned round
    even = layer_fields(analyze(Network.sequential("net", (1, 1, 8, 8), [ConvTranspose2d(1, 3, padding=1)])))[1]
    assert (even.size, even.exact, even.jump, even.start, even.padding) == ((3, 3), True, (1, 1), (0, 0), ((1, 1),) * 2)


def test_start_and_padding() -> None:
    # 7×7 stride 2 padding 3: the first output is centred on pixel 0; 112 outputs end at 111·2 + 3 = 225, past 223
    stem = layer_fields(analyze(Network.sequential("net", (1, 3, 224, 224), [Conv2d(64, 7, stride=2, padding=3)])))[1]
    assert (stem.start, stem.padding) == ((0, 0), ((3, 2), (3, 2)))
    # 2×2 stride 2 on 5 pixels: the centre is between two, the last pixel is never seen; with ceil_mode one past the end
    for ceil, after in ((False, -1), (True, 1)):
        pool = MaxPool2d(2, ceil_mode=ceil)
        field = layer_fields(analyze(Network.sequential("net", (1, 1, 5, 5), [pool])))[1]
        assert (field.start, field.padding) == ((0.5, 0.5), ((0, after),) * 2)


def test_what_loses_the_place_is_bounded_by_all_that_flows_in() -> None:
    lossy = [Conv2d(1, 3), Upsample(scale_factor=2, mode="nearest"), Conv2d(1, 3)]
    last = layer_fields(analyze(Network.sequential("net", (1, 1, 9, 8), lossy)))[-1]
    assert (last.size, last.exact, last.jump) == ((9, 8), False, None)
    # side by side along the height: positions are no longer those of the image
    for dim, exact in ((1, True), (2, False)):
        builder = Builder("net", (1, 2, 6, 6))
        branch = builder.add(Conv2d(2, 3, padding=1))
        builder.add(Concat(dim), "join", after=("input", branch))
        builder.add(Conv2d(1, 3), "conv")
        assert layer_fields(analyze(builder.network()))[-1].exact == exact
    # what is added to something whose place is lost has lost it too
    builder = Builder("net", (1, 2, 6, 6))
    builder.add(Upsample(scale_factor=1), "same")
    builder.add(Add(), "add", after=("input", "same"))
    row = analyze(builder.network())["add"]
    assert (row.fields, row.receptive_field) == ((None, None), None)


def test_uneven_outputs_that_see_all_see_exactly_that() -> None:
    builder = Builder("net", (1, 2, 7, 5))
    builder.add(AdaptiveAvgPool2d(1), "pool")
    builder.add(ConvTranspose2d(2, (7, 5)), "spread")
    builder.add(Add(), "add", after=("input", "spread"))
    report = analyze(builder.network())
    assert layer_fields(report)[-1].size == (7, 5)
    # a gate, one number a channel, lets every place see the whole image
    assert [bin(mask) for mask in Seen((1, 2, 4)).joined([Seen((7,))]) or ()] == ["0b111"] * 3
    assert Seen((1, 2, 4)).joined([Seen((1, 2))]) is None


def test_mirrored_padding_sees_other_pixels() -> None:
    report = analyze(Network.sequential("net", (1, 1, 8, 8), [Conv2d(1, 3, padding=1, padding_mode="circular")]))
    assert not pixels(report)["conv2d1"].exact
    assert layer_fields(report)[1].exact
    assert receptive_table(report, position=(0, 0)).rows[1][-1] is None


# The closed form


def test_the_closed_form_of_a_stack_is_solved_from_the_recurrence() -> None:
    N, F = sympy.symbols("N F", integer=True, positive=True)
    closed = stack()
    assert sympy.expand(closed - (N * F - N + 1)) == 0
    assert closed.subs({N: 3, F: 5}) == 13  # 3·5 - 3 + 1
    for layers in range(1, 11):
        for taps in (1, 2, 3, 5):
            net = Network.sequential("net", (1, 1, 50, 50), [Conv2d(1, taps)] * layers)
            assert analyze(net).rows[-1].receptive_field == (closed.subs({N: layers, F: taps}),) * 2


# Tables


def test_as_a_table() -> None:
    table = receptive_table(analyze(zoo.alexnet()), "conv|pool")
    assert table.title == "Receptive fields of alexnet on 1×3×227×227, in pixels of the input"
    # conv1: 11, jump 4, start (11 - 1)/2 = 5; pool1: 11 + 2·4 = 19, jump 8, start 9; conv2: 19 + 4·8 = 51, padding 2·8
    assert table.rows[:3] == (
        ("conv1", "Conv2d", "1×96×55×55", "11×11", "4×4", "5", "0"),
        ("pool1", "MaxPool2d", "1×96×27×27", "19×19", "8×8", "9", "0"),
        ("conv2", "Conv2d", "1×256×27×27", "51×51", "8×8", "9", "16"),
    )
    assert len(receptive_table(analyze(zoo.alexnet()), all_rows=True).rows) == len(analyze(zoo.alexnet()))
    uneven = receptive_table(analyze(Network.sequential("net", (1, 3, 8, 7), [AdaptiveAvgPool2d(3)])))
    # 8 in 3 bins: 0-2, 2-5, 5-7; 7 in 3 bins: 0-2, 2-4, 4-6
    assert uneven.rows[1][3:] == ("≤ 4×3", None, None, None)
    assert any(note.startswith("≤:") for note in uneven.notes)
    normed = receptive_table(analyze(Network.sequential("net", (1, 4, 8, 8), [GroupNorm(2), ReLU()])))
    assert "What is seen through the mean and variance of GroupNorm is left out." in normed.notes
    assert "Left out, see what the layer before sees: 1 ReLU (--all shows them)." in normed.notes


def test_positions_in_a_table() -> None:
    report = analyze(zoo.alexnet())
    table = receptive_table(report, "^conv1$", (1, 2))
    # rows 1·4 to 1·4 + 10, columns 2·4 to 2·4 + 10
    assert (table.columns[-1].header, table.rows[0][-1]) == ("output 1, 2 sees", "4…14 × 8…18")
    with pytest.raises(InputError, match="alexnet has no layer with an output at 55, 0"):
        receptive_table(report, "^conv1$", (55, 0))


def test_closed_forms_of_fields() -> None:
    report = analyze(zoo.vgg16(), (1, 3, "H", "W"))
    (field,) = (field for field in layer_fields(report) if field.row.name == "pool5")
    assert (field.size, field.jump, field.start) == ((212, 212), (32, 32), (15.5, 15.5))
    assert str(layer_fields(report)[-1].size[0]) == "32*floor(H/32) + 180"  # 212 + (⌊H/32⌋ - 1)·32
    with pytest.raises(InputError, match="takes an input of whole numbers, not 1×3×H×W"):
        receptive_table(report, position=(0, 0))


def test_vectors_see_no_image() -> None:
    with pytest.raises(InputError, match="net on 1×3: none of the layers sees an image"):
        receptive_table(analyze(Network.sequential("net", (1, 3), [Linear(5)])))


def test_as_data() -> None:
    record = receptive_record(analyze(zoo.resnet18()), "^conv1$", (0, 1))
    assert record["schema"] == "archcalc.receptive/1"
    assert record["layers"] == [
        {
            "name": "conv1",
            "kind": "Conv2d",
            "inputs": ["input"],
            "output": [1, 64, 112, 112],
            "receptive_field": [7, 7],
            "exact": True,
            "jump": [2, 2],
            "start": [0, 0],
            "padding": [[3, 2], [3, 2]],
            "pixels": [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5]],
        }
    ]


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["receptive", "vgg16", "--layers", "pool5", "--format", "csv"])
    assert end.value.code == 0
    row = capsys.readouterr().out.splitlines()[1].replace("×", "x")
    assert row == "pool5,MaxPool2d,1x512x7x7,212x212,32x32,15.5,90"
    with pytest.raises(SystemExit) as end:
        main(["receptive", "vgg16", "--position", "a,b"])
    assert end.value.code == 2
    assert "cannot read --position 'a,b'" in capsys.readouterr().err


def test_images_too_large_to_follow_are_unknown_not_endless() -> None:
    layers = [Conv2d(1, 3), ConvTranspose2d(1, 3, stride=2)]
    report = analyze(Network.sequential("large", (1, 1, 10**6, 10**6), layers))
    known = {field.row.name: (field.size, field.exact) for field in layer_fields(report)}
    assert known["conv2d1"] == ((3, 3), True)
    assert known["convtranspose2d1"] == ((), False)
    with pytest.raises(InputError, match="large on 1×1×1000000×1000000 has too many pixels and outputs to follow each"):
        pixels(report)


def test_fields_of_signals_of_vectors_and_of_what_sees_no_image() -> None:
    report = analyze(Network.sequential("net", (1, 2, 9), [Conv1d(4, 3, stride=2), Flatten()]))
    _, conv, flat = report
    assert (conv.receptive_field, conv.jump) == ((3,), (2,))
    assert (flat.receptive_field, flat.jump) == ((9,), None)  # 4 outputs: 3·2 + 3
    assert [field.padding for field in layer_fields(report)][1:] == [((0, 0),)] * 2
    words = analyze(Network.sequential("words", (1, 5), [Embedding(10, 4)])).rows[-1]
    assert (words.receptive_field, words.jump) == (None, None)


def test_uneven_bins_of_an_image_of_letters_have_no_size() -> None:
    network = Network.sequential("net", (1, 3, 8, 8), [Conv2d(4, 3), AdaptiveAvgPool2d(4)])
    _, conv, pool = layer_fields(analyze(network, (1, 3, "H", "W")))
    assert (conv.size, conv.exact) == ((3, 3), True)
    assert (pool.size, pool.exact) == ((), False)


def test_outputs_of_padding_alone_do_not_blur_the_layers_after_them() -> None:
    # 4 pixels between two outputs that see nothing: windows of three of these six see 0 1, 0 1 2, 1 2 3, 2 3
    network = Network.sequential("net", (1, 1, 4, 4), [Conv2d(1, 1, padding=1), Conv2d(1, 3)])
    seen = pixels(analyze(network))["conv2d2"]
    assert seen.exact
    assert seen.axes == ((0b0011, 0b0111, 0b1110, 0b1100),) * 2


def test_starts_between_pixels_in_tables_records_and_letters() -> None:
    # two rows from 0 on are centred at 0.5, three columns at 1
    network = Network.sequential("net", (1, 1, 8, 8), [Conv2d(1, (2, 3)), AdaptiveAvgPool2d(1)])
    report = analyze(network)
    assert receptive_table(report).rows[1] == ("conv2d1", "Conv2d", "1×1×7×6", "2×3", "1×1", "0.5, 1", "0")
    plain, placed = receptive_record(report), receptive_record(report, None, (0, 0))
    assert plain["layers"][1]["start"] == [0.5, 1]
    assert "position" not in plain
    assert "pixels" not in plain["layers"][1]
    assert placed["position"] == [0, 0]
    assert placed["layers"][1]["pixels"] == [[0, 1], [0, 1, 2]]
    H = sympy.Symbol("H", integer=True, positive=True)
    assert layer_fields(analyze(network, (1, 1, "H", 8)))[-1].start == ((H - 1) / 2, 3.5)
