"""Activations, recurrent layers, embeddings, resampling, padding: nests run literally, shapes, parameters, errors."""

from typing import Any

import numpy
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from archcalc import analyze, layers
from archcalc.columns import OPERATIONS
from archcalc.errors import ShapeError, SpecError
from archcalc.explain import explain
from archcalc.extents import Shape, as_shape
from archcalc.graph import Network
from archcalc.layers import Layer
from archcalc.nest import ledger, sizes
from archcalc.receptive import Field
from tests.interpreter import module
from tests.more_kinds import CASES, MOVED, more_cases
from tests.more_programs import PROGRAMS, MoreOps

EXACT = {"ReLU", "ReLU6", "Hardtanh", "LeakyReLU", "PReLU", "RReLU", "Threshold", "Hardshrink", "Softshrink"}
EXACT |= {"Embedding", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "Unflatten"} | {
    k for k in CASES if "Pad" in k
}
"""Kinds whose arithmetic is the same, operation by operation, as torch's."""


def example(layer: Layer, shape: Shape, seed: int) -> tuple[Tensor, torch.nn.Module, dict[str, Tensor], Tensor]:
    """An input, torch's module with random parameters, its state, and its output."""
    random = torch.Generator().manual_seed(seed)
    reference = module(layer, [shape])
    assert reference is not None
    state = reference.state_dict()
    for value in state.values():
        value.copy_(torch.rand(value.shape, generator=random) * 4 - 2)
    if isinstance(layer, layers.Embedding | layers.EmbeddingBag):
        state["weight"].copy_(torch.randint(0, 90, state["weight"].shape, generator=random))
        x: Tensor = torch.randint(0, layer.num_embeddings, shape, generator=random)
    else:
        x = torch.randn(shape, generator=random, dtype=torch.float64) * 2
    with torch.no_grad():
        output = reference(x.clone())
    return x, reference, state, output[0] if isinstance(output, tuple) else output


def test_every_kind_here_has_a_case_and_a_program_or_only_moves_data() -> None:
    assert CASES.keys() == PROGRAMS.keys() | MOVED
    assert all(hasattr(torch.nn, kind) for kind in CASES)


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@given(data=st.data(), seed=st.integers(0, 99))
def test_nests_run_literally_give_the_output_of_torch(kind: str, data: st.DataObject, seed: int) -> None:
    layer, shape = data.draw(more_cases(kind))
    x, reference, state, expected = example(layer, shape, seed)
    if kind.endswith("Cell"):
        expected = expected if kind != "LSTMCell" else reference(x)[0].detach()
    ops, nests = MoreOps(), layer.nests(shape)
    found = PROGRAMS[kind](layer, nests, [x], state, ops)

    assert found.shape == expected.shape == layer.output(shape)
    inside = ~found.isnan()
    assert inside.all() or "Pad" in kind
    if kind in EXACT:
        assert torch.equal(found[inside], expected[inside].double())
    else:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert dict(ops) == {op: amount for op, amount in ledger(nests).items() if amount}
    assert ops.iterations == sum(nest.iterations for nest in nests)
    assert ops["mac"] == sum(nest.iterations for nest in nests if "mac" in nest.ops)
    assert ledger(nests).keys() <= {"mac", *OPERATIONS}


@pytest.mark.parametrize("kind", sorted(MOVED))
@given(data=st.data())
def test_kinds_without_nests_pass_their_input_on_in_the_shape_of_torch(kind: str, data: st.DataObject) -> None:
    layer, shape = data.draw(more_cases(kind))
    x, reference, _, expected = example(layer, shape, 0)
    assert layer.output(shape) == tuple(expected.shape)
    assert torch.equal(expected.flatten(), x.flatten())
    assert layer.nests(shape) == ()
    assert layer.in_place
    assert not reference.state_dict()


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@given(data=st.data())
def test_parameters_are_those_of_the_state_dict(kind: str, data: st.DataObject) -> None:
    layer, shape = data.draw(more_cases(kind))
    reference = module(layer, [shape])
    assert reference is not None
    operands = [(nest, operand) for nest in layer.nests(shape) for operand in nest.operands]
    stated = [(o.name, nest.shape(o)) for nest, o in operands if o.role in ("weight", "bias", "buffer")]
    assert len(stated) == len(dict(stated)), "a parameter is counted twice"
    assert dict(stated) == {name: tuple(value.shape) for name, value in reference.state_dict().items()}
    elements = sizes(layer.nests(shape))
    assert elements["weight"] + elements["bias"] == sum(p.numel() for p in reference.parameters())
    assert elements["bias"] == sum(p.numel() for name, p in reference.named_parameters() if "bias" in name)
    assert elements["buffer"] == 0


@pytest.mark.parametrize("kind", sorted(CASES))
@given(data=st.data())
def test_closed_forms_agree_with_numbers(kind: str, data: st.DataObject) -> None:
    layer, shape = data.draw(more_cases(kind))
    fixed = kind in ("PReLU", "Unflatten")  # the layer itself says how long an axis is, which no letter can be
    letters = shape if fixed else as_shape([f"x{i}" for i in range(len(shape))])
    values = dict(zip(letters, shape, strict=True))

    def number(extent: Any) -> int:
        result = sympy.sympify(extent).subs(values)
        assert result.is_Integer
        return int(result)

    assert tuple(map(number, layer.output(letters))) == layer.output(shape)
    closed = {op: number(amount) for op, amount in ledger(layer.nests(letters)).items()}
    assert closed == ledger(layer.nests(shape))
    swept = as_shape([numpy.array([extent, extent]) for extent in shape])
    assert [numpy.broadcast_to(extent, 2).tolist() for extent in layer.output(swept)] == [
        [extent] * 2 for extent in layer.output(shape)
    ]


@pytest.mark.parametrize("kind", sorted(CASES))
@given(data=st.data())
def test_every_number_has_its_working(kind: str, data: st.DataObject) -> None:
    layer, shape = data.draw(more_cases(kind))
    report = analyze(Network.sequential("net", shape, [layer]))
    row = report.rows[1]
    workings = explain(report, row.name)
    for op, amount in row.ledger.items():
        assert workings["macs" if op == "mac" else op].value == amount
    for name in ("weights", "biases", "params", "activations"):
        assert workings[name].value == getattr(row, name) if name in workings else getattr(row, name) == 0


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
@given(data=st.data())
def test_recurrent_macs_are_half_of_what_torch_counts_on_the_meta_device(kind: str, data: st.DataObject) -> None:
    layer, shape = data.draw(more_cases(kind))
    reference = getattr(torch.nn, kind)(**layer.arguments(shape), device="meta").eval()
    with FlopCounterMode(display=False) as counter:
        reference(torch.empty(shape, device="meta"))
    assert 2 * ledger(layer.nests(shape))["mac"] == counter.get_total_flops()


def test_a_recurrent_layer_by_hand() -> None:
    # 4 gates · 20 units · (10 inputs + 20 states), for 3 sequences of 7 steps
    counted = ledger(layers.LSTM(20, batch_first=True).nests((3, 7, 10)))
    assert counted["mac"] == 3 * 7 * 4 * 20 * (10 + 20)
    assert counted["bias_add"] == 3 * 7 * 4 * 20 * 2
    assert {op: amount // (3 * 7 * 20) for op, amount in counted.items() if op not in ("mac", "bias_add")} == {
        "add": 8, "exp": 3, "div": 3, "tanh": 2, "mul": 3,
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "gates"), [("RNNCell", 1), ("LSTMCell", 4), ("GRUCell", 3)])
def test_a_cell_takes_a_vector_without_a_batch(kind: str, gates: int) -> None:
    cell = getattr(layers, kind)(20)
    outputs = getattr(torch.nn, kind)(**cell.arguments((10,)))(torch.zeros(10))
    assert cell.output((10,)) == tuple((outputs[0] if kind == "LSTMCell" else outputs).shape)
    assert ledger(cell.nests((10,)))["mac"] == gates * 20 * (10 + 20)


@pytest.mark.parametrize(
    ("mode", "shape", "outputs", "inputs"),
    [("nearest", (1, 3, 4), 24, 1), ("linear", (1, 3, 4), 24, 2), ("bicubic", (1, 3, 4, 4), 192, 16)],
)
def test_an_enlarged_image_takes_a_product_for_each_input_of_an_output(
    mode: str, shape: Shape, outputs: int, inputs: int
) -> None:
    # 3·8 and 3·8·8 outputs: each the sum of its inputs, one addition fewer than products; nearest copies
    ops = {"mul": outputs * inputs, "add": outputs * (inputs - 1)} if inputs > 1 else {}
    assert ledger(layers.Upsample(scale_factor=2, mode=mode).nests(shape)) == ops


def test_fields_follow_from_padding_and_end_at_layers_that_move_pixels() -> None:
    padded = analyze(Network.sequential("net", (1, 3, 8, 8), [layers.ZeroPad2d((1, 0, 2, 0))])).rows[1]
    assert padded.output == (1, 3, 10, 9)
    assert padded.fields == (Field(first=-2), Field(first=-1))
    for layer in (layers.Upsample(scale_factor=2), layers.PixelUnshuffle(2)):
        row = analyze(Network.sequential("net", (1, 4, 8, 8), [layer])).rows[1]
        assert row.receptive_field is None
        assert row.jump is None


def test_in_place_activations_write_nothing() -> None:
    assert layers.SiLU(inplace=True).in_place
    assert not layers.SiLU().in_place
    assert not layers.Sigmoid().in_place
    assert layers.Identity().in_place
    assert layers.Unflatten(1, (2, 2)).in_place


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("Hardtanh", {"min_val": 1.0, "max_val": 1.0}, r"min_val \(=1.0\) must be less than max_val \(=1.0\)"),
        ("PReLU", {"num_parameters": 0}, r"num_parameters is 0; .* at least 1"),
        ("CELU", {"alpha": 0.0}, "alpha is 0"),
        ("GELU", {"approximate": "erf"}, r"approximate is 'erf'; it must be 'none' or 'tanh'"),
        ("Softshrink", {"lambd": -1.0}, r"lambd is -1.0; it must not be negative"),
        ("Softplus", {"beta": 0}, "beta is 0"),
        ("GLU", {"dim": 1.5}, "dim is 1.5; it must be a whole number"),
        ("Dropout3d", {"p": 2}, "p is 2; a probability lies between 0 and 1"),
        ("RNN", {"hidden_size": 4, "nonlinearity": "relu6"}, "nonlinearity is 'relu6'; it must be 'tanh' or 'relu'"),
        ("RNNCell", {"hidden_size": 4, "nonlinearity": None}, "nonlinearity is None"),
        ("GRU", {"hidden_size": 0}, "hidden_size is 0"),
        ("GRUCell", {"hidden_size": 1.0}, "hidden_size is 1.0"),
        ("LSTM", {"hidden_size": 4, "num_layers": 0}, "num_layers is 0"),
        ("LSTM", {"hidden_size": 4, "dropout": 1.5}, "dropout is 1.5"),
        ("LSTM", {"hidden_size": 4, "proj_size": 4}, r"proj_size \(=4\) must be less than hidden_size \(=4\)"),
        ("Embedding", {"num_embeddings": 0, "embedding_dim": 1}, "num_embeddings is 0"),
        ("Embedding", {"num_embeddings": 3, "embedding_dim": 1, "padding_idx": 3}, r"padding_idx \(=3\) must be"),
        ("Embedding", {"num_embeddings": 3, "embedding_dim": 1, "max_norm": 1.0}, "max_norm is 1.0; there is no rule"),
        ("EmbeddingBag", {"num_embeddings": 3, "embedding_dim": 1, "mode": "min"}, "mode is 'min'"),
        ("Upsample", {}, "size is None and scale_factor None; give one of them"),
        ("Upsample", {"size": 2, "scale_factor": 2}, "size is 2 and scale_factor 2; give one of them"),
        ("Upsample", {"size": 0}, "size is 0; it must be a whole number above 0"),
        ("Upsample", {"scale_factor": -1.0}, "scale_factor is -1.0; it must be a number above 0"),
        ("Upsample", {"size": 2, "mode": "cubic"}, "mode is 'cubic'; it must be one of nearest"),
        ("Upsample", {"size": 2, "align_corners": True}, "align_corners is True; mode 'nearest' has no such choice"),
        ("Upsample", {"size": 2, "recompute_scale_factor": True}, "recompute_scale_factor needs a scale_factor"),
        ("PixelShuffle", {"upscale_factor": 0}, "upscale_factor is 0"),
        ("ChannelShuffle", {"groups": 0}, "groups is 0"),
        ("ZeroPad2d", {"padding": (1, 2)}, r"padding is \(1, 2\); it must be a whole number or 4 of them"),
        ("ZeroPad1d", {"padding": 1.0}, r"padding is 1.0; it must be a whole number or 2 of them"),
        ("Unflatten", {"dim": 1, "unflattened_size": (-1, -1)}, "one of which may be -1"),
        ("Unflatten", {"dim": 1, "unflattened_size": ()}, "one of which may be -1"),
        ("Flatten", {"start_dim": "1"}, "start_dim is '1'; it must be a whole number"),
    ],
)  # fmt: skip
def test_an_impossible_layer_is_refused(kind: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        layers.KINDS[kind](**arguments)


IMPOSSIBLE: list[tuple[Layer, Shape, str]] = [
    (layers.PReLU(3), (1, 4, 2, 2), r"channels \(=4\) must equal num_parameters \(=3\)"),
    (layers.GLU(), (2, 3), r"axis 1 \(=3\) must be even"),
    (layers.GLU(2), (2, 4), r"dim \(=2\) is not an axis of an input of 2 axes"),
    (layers.LogSoftmax(3), (2, 4), r"dim \(=3\) is not an axis"),
    (layers.Softmax2d(), (2, 4), "needs an input of 3 axes"),
    (layers.LSTM(4), (5,), r"needs an input of 3 axes \(L, N, C\), not 1"),
    (layers.GRU(4, batch_first=True), (1, 2, 5, 3), r"needs an input of 3 axes \(N, L, C\), not 4"),
    (layers.LSTMCell(4), (2, 5, 3), r"needs an input of 2 axes \(N, C\), not 3"),
    (layers.EmbeddingBag(3, 4), (2, 5, 3), r"needs an input of 2 axes \(N, L\), not 3"),
    (layers.Upsample(size=3, mode="bilinear"), (1, 2, 3), r"mode 'bilinear' needs an input of 4 axes"),
    (layers.Upsample(size=(3, 3)), (1, 2, 3), "size has 2 numbers for 1 spatial axes"),
    (layers.Upsample(scale_factor=0.5), (1, 2, 1), "an axis of 1 shrinks to nothing"),
    (layers.PixelShuffle(2), (1, 6, 3, 3), r"channels \(=6\) must be divisible by upscale_factor² \(=4\)"),
    (layers.PixelShuffle(2), (6, 3), "needs an input of 3 axes or more"),
    (layers.PixelUnshuffle(2), (1, 6, 4, 3), r"width \(=3\) must be divisible by downscale_factor \(=2\)"),
    (layers.ChannelShuffle(2), (1, 3, 4), r"channels \(=3\) must be divisible by groups \(=2\)"),
    (layers.ReflectionPad1d(3), (1, 2, 3), "padding of 3 on an axis of 3 must be at most 2"),
    (layers.CircularPad1d(4), (1, 2, 3), "padding of 4 on an axis of 3 must be at most 3"),
    (layers.ZeroPad1d(-2), (1, 2, 3), "padding of -2 and -2 leaves nothing of an axis of 3"),
    (layers.ReplicationPad2d(1), (2, 3), r"needs an input of 4 axes \(N, C, H, W\), not 2"),
    (layers.Unflatten(1, (2, 2)), (1, 6), r"axis 1 \(=6\) cannot be cut into \(2, 2\)"),
    (layers.Unflatten(1, (4, -1)), (1, 6), r"axis 1 \(=6\) cannot be cut into \(4, -1\)"),
    (layers.Flatten(2, 1), (1, 2, 3), r"start_dim \(=2\) must not come after end_dim \(=1\)"),
    (layers.Flatten(1, 3), (1, 2, 3), r"end_dim \(=3\) is not an axis of an input of 3 axes"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape", "message"), IMPOSSIBLE)
def test_an_input_that_does_not_fit_is_refused_with_the_reason(layer: Layer, shape: Shape, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        layer.output(shape)
    if layer.kind not in ("LSTM", "EmbeddingBag"):  # torch takes these two without a batch, or with offsets
        with pytest.raises((RuntimeError, ValueError, IndexError, AssertionError, NotImplementedError)):
            getattr(torch.nn, layer.kind)(**layer.arguments(shape))(torch.zeros(shape))
