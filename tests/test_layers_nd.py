"""Convolutions, pools and normalisations in one to three dimensions: nests run literally, shapes, errors."""

import itertools
import math
import warnings
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from archcalc import analyze, layers
from archcalc.errors import ShapeError, SpecError
from archcalc.explain import explain
from archcalc.extents import Shape, as_shape
from archcalc.graph import Builder, Network
from archcalc.layers import KINDS, Layer
from archcalc.nest import Nest, Operand, Scatter, Window, ledger, sizes
from archcalc.receptive import Field
from tests.interpreter import Ops, execute, integers, module, run_torch
from tests.nd_kinds import CASES, nd_cases
from tests.nd_programs import PROGRAMS

ROUNDED = ("LPPool", "BatchNorm", "InstanceNorm", "GroupNorm", "LayerNorm", "RMSNorm", "LocalResponseNorm")
"""Kinds with roots, powers or means of squares; everything else is compared with equality."""

AVERAGED = math.lcm(*range(1, 10)) ** 3
"""Whole numbers divisible by whatever up to three axes of windows or bins divide by, in whatever order."""

BLIND = {"Bilinear"}
"""Kinds that multiply and of which FlopCounterMode sees nothing."""


@pytest.fixture(autouse=True)
def _no_notes_on_even_kernels() -> None:
    warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")


def reference_of(layer: Layer, shapes: tuple[Shape, ...], seed: int) -> torch.nn.Module:
    """torch's module, its parameters small whole numbers, its variances positive."""
    random = torch.Generator().manual_seed(seed)
    reference = module(layer, shapes)
    assert reference is not None
    for name, value in reference.state_dict().items():
        if value.is_floating_point():
            value.copy_(integers(tuple(value.shape), random, least=1 if name == "running_var" else -9))
    return reference


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@given(data=st.data(), seed=st.integers(0, 99))
def test_nests_run_literally_give_the_output_of_torch(kind: str, data: st.DataObject, seed: int) -> None:
    layer, shapes = data.draw(nd_cases(kind))
    random = torch.Generator().manual_seed(seed)
    least = 0 if "LPPool" in kind else -9  # powers of negative numbers may have no root
    step = AVERAGED if "AvgPool" in kind else 1
    inputs = [integers(shape, random, least=least, step=step) for shape in shapes]
    reference = reference_of(layer, shapes, seed)
    with FlopCounterMode(display=False) as counter:
        expected = run_torch(layer, inputs, reference)

    ops, nests = Ops(), layer.nests(*shapes)
    found = PROGRAMS[kind](layer, nests, inputs, reference.state_dict(), ops)

    assert found.shape == expected.shape == layer.output(*shapes)
    if kind.startswith(ROUNDED):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    else:
        assert torch.equal(found, expected)
    assert dict(ops) == ledger(nests)
    assert ops.iterations == sum(nest.iterations for nest in nests)
    macs = sum(nest.iterations for nest in nests if "mac" in nest.ops)
    assert ops["mac"] == macs
    if kind not in BLIND and not (kind == "Linear" and len(shapes[0]) == 1):  # a matrix times one vector is not counted
        assert 2 * macs == counter.get_total_flops()


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@given(data=st.data())
def test_names_and_shapes_of_parameters_are_those_of_the_state_dict(kind: str, data: st.DataObject) -> None:
    layer, shapes = data.draw(nd_cases(kind))
    reference = module(layer, shapes)
    assert reference is not None
    stated = {
        operand.name: (nest.shape(operand), operand.role)
        for nest in layer.nests(*shapes)
        for operand in nest.operands
        if operand.role in ("weight", "bias", "buffer")
    }
    assert {name: shape for name, (shape, _) in stated.items()} == {
        name: tuple(value.shape) for name, value in reference.state_dict().items()
    }
    trained = {name for name, _ in reference.named_parameters()}
    assert {name for name, (_, role) in stated.items() if role != "buffer"} == trained
    assert all(name == role for name, (_, role) in stated.items() if role != "buffer")


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@given(data=st.data())
def test_closed_forms_are_what_their_numbers_give(kind: str, data: st.DataObject) -> None:
    layer, shapes = data.draw(nd_cases(kind))
    if kind.startswith("Adaptive") or hasattr(layer, "normalized_shape"):
        return  # bins of a symbolic size and lengths that are given have tests of their own
    names = [tuple(f"x{i}_{axis}" for axis in range(len(shape))) for i, shape in enumerate(shapes)]
    if isinstance(layer, layers.Bilinear):
        names[1] = (*names[0][:-1], names[1][-1])
    letters = [list(as_shape(name)) for name in names]
    values = dict(zip(itertools.chain(*letters), itertools.chain(*shapes), strict=True))
    for symbols, shape in zip(letters, shapes, strict=True):
        if hasattr(layer, "groups") or hasattr(layer, "num_groups"):
            symbols[1] = shape[1]  # divisibility of a letter cannot be known
    closed, numbers = layer.nests(*map(tuple, letters)), layer.nests(*shapes)
    for one, other in zip(closed, numbers, strict=True):
        assert [sympy.sympify(n).subs(values) for n in one.output] == list(other.output)
        assert sympy.sympify(one.iterations).subs(values) == other.iterations
    assert {role: sympy.sympify(n).subs(values) for role, n in sizes(closed).items()} == sizes(numbers)


def test_an_axis_that_is_kept_may_be_a_letter() -> None:
    N, C, H, W = as_shape(("N", 5, "H", "W"))
    pool = layers.AdaptiveAvgPool2d((None, 1))
    assert pool.output((N, C, H, W)) == (N, 5, H, 1)
    assert pool.nests((N, C, H, W))[0].iterations == 5 * N * H * W
    norm = layers.LayerNorm(5)
    assert norm.nests((N, H, 5))[1].iterations == N * H


def test_every_kind_here_has_a_case_and_a_module() -> None:
    assert CASES.keys() == PROGRAMS.keys()
    assert all(hasattr(torch.nn, kind) for kind in CASES)


# Refusals


@pytest.mark.parametrize("rank", [1, 2, 3])
@given(data=st.data())
def test_a_transposed_convolution_has_the_shape_of_torch_or_is_refused_like_there(
    rank: int, data: st.DataObject
) -> None:
    small = st.integers(1, 4)
    each = st.tuples(*[small] * rank)
    fields: dict[str, Any] = {
        "out_channels": data.draw(small), "kernel_size": data.draw(each), "stride": data.draw(each),
        "padding": data.draw(st.tuples(*[st.integers(0, 4)] * rank)), "dilation": data.draw(each),
        "output_padding": data.draw(st.tuples(*[st.integers(0, 3)] * rank)), "groups": data.draw(st.integers(1, 3)),
    }  # fmt: skip
    shape = (1, data.draw(small), *data.draw(each))
    kind = f"ConvTranspose{rank}d"
    try:
        found = getattr(layers, kind)(**fields).output(shape)
    except (SpecError, ShapeError):
        found = None
    try:
        expected = tuple(
            getattr(torch.nn, kind)(shape[1], **fields, device="meta")(torch.zeros(shape, device="meta")).shape
        )
    except (ValueError, RuntimeError):
        expected = None
    assert found == (expected if expected is None or 0 not in expected else None)  # empty on the meta device alone


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Conv1d(4, (3, 3)), "kernel_size is (3, 3); it must be a whole number, at least 1"),
        (lambda: layers.Conv3d(4, (3, 3)), "kernel_size is (3, 3); it must be a whole number or 3 of them"),
        (lambda: layers.Conv3d(4, 3, groups=3), "out_channels (=4) must be divisible by groups (=3)"),
        (lambda: KINDS["Conv1d"](4, 3, padding_mode="mirror"), "padding_mode is 'mirror'"),  # type: ignore[call-arg]
        (lambda: layers.Conv1d(4, 3, stride=2, padding="same"), "needs stride 1, not (2,)"),
        (lambda: layers.ConvTranspose2d(4, 3, padding="same"), "padding is 'same'; it must be a whole number"),
        (lambda: layers.ConvTranspose2d(4, 3, stride=2, output_padding=2), "output_padding (=2) must be smaller than"),
        (lambda: layers.MaxPool3d(2, padding=2), "padding (=2) must be at most half of kernel_size (=2)"),
        (lambda: layers.AvgPool2d(2, divisor_override=0), "divisor_override is 0"),
        (lambda: layers.LPPool2d(0, 2), "norm_type is 0"),
        (lambda: layers.FractionalMaxPool2d(2, output_ratio=1.5), "output_ratio is 1.5; it must be a number between 0"),
        (lambda: layers.FractionalMaxPool2d(2, output_ratio=(0.5,) * 3), "between 0 and 1 or 2 of them"),
        (lambda: layers.FractionalMaxPool3d(2, output_ratio="half"), "output_ratio is 'half'"),  # type: ignore[arg-type]
        (lambda: layers.AdaptiveAvgPool1d((None,)), "output_size is (None,)"),
        (lambda: layers.AdaptiveMaxPool2d((None,)), "output_size is (None,)"),
        (lambda: layers.AdaptiveMaxPool2d((None, 0)), "output_size is 0"),
        (lambda: layers.GroupNorm(0), "num_groups is 0"),
        (lambda: layers.LayerNorm(()), "normalized_shape is empty"),
        (lambda: layers.RMSNorm(0), "normalized_shape is 0"),
    ],
)
def test_fields_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (layers.Conv1d(4, 3), (1, 3, 9, 9), "needs an input of 3 axes (N, C, W), not 4"),
        (layers.Conv3d(4, 3), (1, 3, 9, 9), "needs an input of 5 axes (N, C, D, H, W), not 4"),
        (layers.Conv3d(4, 3), (1, 3, 2, 9, 9), "larger than the padded input depth 2 + 0 + 0 = 2"),
        (layers.Conv3d(4, 3), (1, 3, 9, 2, 9), "larger than the padded input height 2"),
        (layers.Conv1d(4, 3), (1, 3, 2), "larger than the padded input width 2"),
        (layers.Conv1d(4, 3, groups=2), (1, 3, 9), "channels in (=3) must be divisible by groups (=2)"),
        (layers.Conv1d(4, 3, padding=2, padding_mode="reflect"), (1, 3, 2), "too small for reflect padding of 2 + 2"),
        (
            layers.Conv1d(4, 4, padding="same", padding_mode="reflect"),
            (1, 3, 2),
            "too small for reflect padding of 1 + 2",
        ),
        (layers.Conv1d(4, 3, padding=3, padding_mode="circular"), (1, 3, 2), "too small for circular padding of 3 + 3"),
        (layers.ConvTranspose1d(4, 3, groups=2), (1, 3, 9), "channels in (=3) must be divisible by groups (=2)"),
        (layers.ConvTranspose2d(4, 3, padding=3), (1, 3, 2, 9), "left between the paddings: -2×5"),
        (layers.ConvTranspose3d(4, 3), (1, 3, 9), "needs an input of 5 axes"),
        (layers.MaxPool1d(3), (1, 3, 2), "larger than the padded input width 2"),
        (layers.AvgPool3d(3), (1, 3, 2), "needs an input of 5 axes"),
        (layers.AdaptiveAvgPool3d(1), (1, 3, 2, 2), "needs an input of 5 axes"),
        (layers.BatchNorm1d(), (1, 3, 2, 2), "needs an input of 3 axes"),
        (layers.InstanceNorm3d(), (1, 3, 2, 2), "needs an input of 5 axes"),
        (layers.GroupNorm(2), (2, 3, 4), "channels in (=3) must be divisible by num_groups (=2)"),
        (layers.GroupNorm(1), (2,), "at least 2 axes"),
        (layers.LayerNorm((4, 5)), (1, 5, 4), "whose last axes are normalized_shape (=4×5)"),
        (layers.RMSNorm((4, 5)), (5,), "whose last axes are normalized_shape (=4×5)"),
        (layers.LocalResponseNorm(3), (1, 3), "needs an input of 4 axes"),
        (layers.Linear(3), (), "at least 1 axis"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_torch_refuses_them_too(
    layer: Layer, shape: Shape, message: str
) -> None:
    with pytest.raises(ShapeError) as caught:
        layer.nests(shape)
    assert message in str(caught.value)
    if str(len(shape) - 1) == layer.kind[-2]:  # torch takes it for one image without a batch
        return
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        run_torch(layer, [torch.zeros(shape, dtype=torch.float64)], module(layer, [shape or (1,)]))


def test_inputs_of_a_bilinear_layer_must_agree() -> None:
    for one, other in (((2, 3), (3, 3)), ((2, 3), (2, 2, 3)), ((2, 3, 5), (2, 4, 5))):
        with pytest.raises(ShapeError, match="the same axes but for the last"):
            layers.Bilinear(4).nests(one, other)


# Numbers by hand


@pytest.mark.parametrize(
    ("layer", "shape", "macs", "weights", "output"),
    [
        (layers.Conv1d(384, 3, stride=2, padding=1), (1, 384, 3000), 1500 * 384 * 1152, 1152 * 384, (1, 384, 1500)),
        (layers.Conv3d(64, 3, padding=1), (1, 3, 16, 56, 56), 16 * 56 * 56 * 64 * 81, 81 * 64, (1, 64, 16, 56, 56)),
        # U-Net's up-convolution: 28·28 inputs times 2·2 taps times 1024·512
        (layers.ConvTranspose2d(512, 2, 2), (1, 1024, 28, 28), 784 * 4 * 2**19, 4 * 2**19, (1, 512, 56, 56)),
        (layers.Linear(3072), (1, 197, 768), 197 * 768 * 3072, 768 * 3072, (1, 197, 3072)),
    ],
)
def test_well_known_layers(layer: Layer, shape: Shape, macs: int, weights: int, output: Shape) -> None:
    row = analyze(Network.sequential("net", shape, [layer])).rows[-1]
    assert (row.macs, row.weights, row.output) == (macs, weights, output)


def test_fractional_pools_compare_each_tap_of_as_many_windows_as_they_are_told() -> None:
    # 64 channels · 4·4 outputs · 2·2 taps; ⌊9·0.5⌋ = 4
    assert ledger(layers.FractionalMaxPool2d(2, output_ratio=0.5).nests((1, 64, 9, 9))) == {"cmp": 64 * 16 * 4}
    for layer in (layers.FractionalMaxPool2d(1, output_size=1), layers.FractionalMaxPool2d(2, output_ratio=(0.5, 0.9))):
        x = torch.rand(1, 3, 9, 9)
        assert layer.output((1, 3, 9, 9)) == tuple(getattr(torch.nn, layer.kind)(**layer.arguments(x.shape))(x).shape)
    with pytest.raises(ShapeError, match="needs an image whose sides are whole numbers"):
        analyze(
            Network.sequential("net", (1, 3, 9, 9), [layers.FractionalMaxPool2d(2, output_ratio=0.5)]), (1, 3, "H", 9)
        )


def test_a_power_of_zero_normalises_nothing_and_is_allowed() -> None:
    layer = layers.LocalResponseNorm(3, beta=0.0)
    x = torch.rand(1, 3, 4, 4)
    assert torch.equal(torch.nn.LocalResponseNorm(3, beta=0.0)(x), x)
    assert layer.output((1, 3, 4, 4)) == (1, 3, 4, 4)


def test_bias_is_passed_on_only_where_it_does_not_go_without_saying() -> None:
    for layer in (layers.BatchNorm2d(), layers.InstanceNorm1d(), layers.GroupNorm(2, affine=False)):
        assert "bias" not in layer.arguments((1, 4, 6, 6))
    assert layers.BatchNorm2d(bias=False).arguments((1, 4, 6, 6))["bias"] is False


def test_a_layer_norm_costs_five_passes_and_its_statistics() -> None:
    # 197 tokens of 768: sums, deviations, squares and their sums, scale by the root, by gamma, shift by beta
    elements, tokens = 197 * 768, 197
    assert ledger(layers.LayerNorm(768).nests((1, 197, 768))) == {
        "add": 4 * elements + tokens, "mul": 3 * elements, "div": 3 * tokens, "sqrt": tokens,
    }  # fmt: skip


def test_an_interpreter_loses_what_is_added_outside() -> None:
    axes = (Scatter("P", Window("H", "R", 2, 1, 1, 1)),)
    nest = Nest(
        {"H": 2, "R": 3},
        {"add": 1},
        (Operand("input", "input", (("H",),)), Operand("output", "output", axes)),
    )
    ops = Ops()
    found = execute(nest, [torch.tensor([1.0, 10.0])], {}, lambda _, total, x: ops.add(total, x), ops)
    # 1 lies on places -1, 0, 1 and 10 on 1, 2, 3, of which 0 to 2 are kept: (2 - 1)·2 + 3 - 2 = 3
    assert found.tolist() == [1.0, 11.0, 10.0]
    assert ops["add"] == 6


# Explanations and receptive fields


@pytest.mark.parametrize(
    ("layer", "shape", "texts"),
    [
        (
            layers.Conv1d(8, 3, stride=2, padding=1),
            (1, 4, 100),
            {
                "weights": "(3·4)·8 = 96",
                "macs": "50·8·(3·4) = 4,800",
                "activations": "50·8 = 400",
                "width": "⌊(100 + 2·1 − 3)/2⌋ + 1 = 50",
                "receptive_field": "1 + (3 − 1)·1 = 3",
            },
        ),
        (
            layers.Conv3d(8, (1, 3, 3), bias=False),
            (1, 4, 5, 6, 7),
            {
                "weights": "(1·3·3·4)·8 = 288",
                "macs": "5·4·5·8·(1·3·3·4) = 28,800",
                "depth": "⌊(5 − 1)/1⌋ + 1 = 5",
                "receptive field D": "1",
                "receptive field W": "1 + (3 − 1)·1 = 3",
            },
        ),
        (
            layers.ConvTranspose2d(8, 3, stride=2, padding=1, output_padding=1, bias=False),
            (1, 4, 5, 6),
            {
                "weights": "(3·3)·4·8 = 288",
                "macs": "5·6·8·(3·3·4) = 8,640",
                "activations": "10·12·8 = 960",
                "height": "(5 − 1)·2 + 3 − 2·1 + 1 = 10",
            },
        ),
        (layers.Linear(8), (2, 5, 4), {"macs": "2·5·8·4 = 320", "activations": "2·5·8 = 80"}),
        (layers.BatchNorm1d(), (2, 5, 4), {"activations": "2·4·5 = 40", "weights": "5"}),
        (layers.AdaptiveAvgPool2d((None, 2)), (1, 5, 4, 8), {"activations": "4·2·5 = 40"}),
    ],
)
def test_explanations(layer: Layer, shape: Shape, texts: dict[str, str]) -> None:
    report = analyze(Network.sequential("net", shape, [layer]))
    found = {name: equation.text() for name, equation in explain(report, report.rows[-1].name).items()}
    assert {name: found.get(name) for name in texts} == texts


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@given(data=st.data())
def test_explanations_come_to_the_rows_numbers(kind: str, data: st.DataObject) -> None:
    layer, shapes = data.draw(nd_cases(kind))
    builder = Builder("net", shapes[0])
    if layer.inputs == 2:
        return
    builder.add(layer, "layer")
    report = analyze(builder.network())
    row = report["layer"]
    equations = explain(report, "layer")
    numbers = {name: getattr(row, name) for name in ("activations", "weights", "biases", "buffers", "params", "macs")}
    numbers |= {op: amount for op, amount in row.ledger.items() if op != "mac"}
    assert {name: equations[name].value for name, number in numbers.items() if number} == {
        name: number for name, number in numbers.items() if number
    }
    for name, size in zip(("width", "height", "depth"), reversed(row.output[2:]), strict=False):
        assert name not in equations or equations[name].value == size


def field_of(shape: Shape, *chain: Layer) -> tuple[Field | None, ...]:
    return analyze(Network.sequential("net", shape, list(chain))).rows[-1].fields


@given(taps=st.integers(1, 4), dilation=st.integers(1, 3), padding=st.integers(0, 2), size=st.integers(4, 9))
def test_without_a_stride_a_transposed_convolution_sees_a_window(
    taps: int, dilation: int, padding: int, size: int
) -> None:
    layer = layers.ConvTranspose1d(1, taps, padding=padding, dilation=dilation, bias=False)
    try:
        (field,) = field_of((1, 1, size), layer)
    except ShapeError:
        return
    assert field is not None
    image = torch.rand(1, 1, size, dtype=torch.float64, requires_grad=True)
    out = torch.nn.functional.conv_transpose1d(
        image, torch.ones(1, 1, taps, dtype=torch.float64), padding=padding, dilation=dilation
    )
    for i in range(out.shape[-1]):
        (gradient,) = torch.autograd.grad(out[0, 0, i], image, retain_graph=True)
        seen = gradient[0, 0].nonzero().flatten().tolist()
        first = field.first + i * field.jump
        wanted = range(first, first + field.size, dilation)
        assert seen == [position for position in wanted if 0 <= position < size]


def test_fields_in_one_and_three_dimensions() -> None:
    # 3 + 2·2 = 7 at jump 2·2
    assert field_of((1, 4, 99), layers.Conv1d(4, 3, stride=2), layers.MaxPool1d(3, 2)) == (Field(7, 4, 0),)
    volume = (1, 4, 9, 9, 9)
    assert field_of(volume, layers.Conv3d(4, (1, 3, 5), padding=(0, 1, 2))) == (
        Field(),
        Field(3, 1, -1),
        Field(5, 1, -2),
    )
    assert field_of(volume, layers.AdaptiveAvgPool3d((None, 3, 1))) == (Field(), Field(3, 3, 0), Field(9, 9, 0))
    # with a stride, outputs of a transposed convolution do not all see as much
    assert field_of((1, 4, 9, 9), layers.ConvTranspose2d(4, 3, stride=(1, 2))) == (Field(3, 1, -2), None)
    # a fully connected layer sums its last axis; normalisations keep the place
    assert field_of((1, 9, 4), layers.Linear(3)) == (None,)
    assert field_of((1, 9, 4, 4), layers.GroupNorm(3), layers.InstanceNorm2d()) == (Field(), Field())
