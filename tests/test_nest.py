"""Every kind's loop nest, executed literally, gives torch's output in as many iterations as it is said to cost."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from archcalc.layers import KINDS, BatchNorm2d, Conv2d, Layer, Linear
from archcalc.nest import Bins, Ledger, Nest, Operand, Window, ledger
from tests import more_kinds, more_programs, nd_programs
from tests.interpreter import (
    MOVED,
    PROGRAMS,
    Ops,
    execute,
    integers,
    missing_proofs,
    module,
    run_torch,
    set_parameters,
)
from tests.strategies import cases, public_kinds

# exp and pow have no exact values; sums of squares are divided by window sizes that are no powers of two.
# Everything else is compared with equality.
ROUNDED = {"Softmax", "LocalResponseNorm"}

# Windows of 1 to 6 by 1 to 6 positions have these divisors; multiples of them stay whole when they are averaged,
# in whatever order torch divides by height and width.
AVERAGED = math.lcm(*range(1, 7)) ** 2  # 60² = 3600


pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@given(data=st.data(), seed=st.integers(0, 99))
def test_a_nest_run_literally_gives_the_output_of_torch(kind: str, data: st.DataObject, seed: int) -> None:
    layer, shapes = data.draw(cases(kind))
    # Without running statistics torch takes those of the batch, for which there is no rule yet.
    assume(getattr(layer, "track_running_stats", True))
    random = torch.Generator().manual_seed(seed)
    inputs = [integers(shape, random, step=AVERAGED if "Avg" in kind else 1) for shape in shapes]
    reference = module(layer, shapes)
    parameters = set_parameters(reference, random) if reference is not None else {}
    expected = run_torch(layer, inputs, reference)

    ops, nests = Ops(), layer.nests(*shapes)
    found = PROGRAMS[kind](layer, nests, inputs, parameters, ops)

    assert found.shape == expected.shape == layer.output(*shapes)
    if kind in ROUNDED:
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    else:
        assert torch.equal(found, expected)
    assert dict(ops) == ledger(nests)
    assert ops["mac"] == ledger(nests).get("mac", 0)
    assert ops.iterations == sum(nest.iterations for nest in nests)
    if kind in ("Conv2d", "Linear"):
        assert nests[0].iterations == ops["mac"]


@pytest.mark.parametrize("kind", sorted(MOVED))
@given(data=st.data(), seed=st.integers(0, 99))
def test_a_kind_that_moves_data_has_the_shape_of_torch_and_costs_nothing(
    kind: str, data: st.DataObject, seed: int
) -> None:
    layer, shapes = data.draw(cases(kind))
    random = torch.Generator().manual_seed(seed)
    inputs = [integers(shape, random, least=1) for shape in shapes]
    reference = module(layer, shapes)
    expected = run_torch(layer, inputs, reference)
    assert layer.output(*shapes) == tuple(expected.shape)
    assert layer.nests(*shapes) == ()
    # Every element of the inputs, none of which is 0, is there again, once, in the same order, and nothing else is.
    moved = expected.flatten()[expected.flatten() != 0] if kind != "Concat" else expected.flatten().sort().values
    given_ = torch.cat([x.flatten() for x in inputs]) if inputs else torch.zeros(0, dtype=torch.float64)
    if kind != "PadChannels":
        assert torch.equal(moved, given_.sort().values if kind == "Concat" else given_)
    else:
        assert torch.equal(moved, given_)
    assert reference is None or not reference.state_dict()


RANDOM = {"FractionalMaxPool2d", "FractionalMaxPool3d"}
"""Kinds whose windows lie at random places, so that no nest says where; test_trace compares their outputs' shapes."""

ZOO = {"TableConv2d", "RBF"}
ATTENTION = {"MultiheadAttention", "ImageToTokens", "ClassToken", "PositionalEmbedding", "TakeToken"}

PROVED_ELSEWHERE = (
    more_programs.PROGRAMS.keys() | more_kinds.MOVED | nd_programs.PROGRAMS.keys() | RANDOM | ZOO | ATTENTION
)
"""Kinds whose proofs are in test_layers_more, test_layers_nd, test_layers_lenet and test_layers_attention."""


def test_every_kind_has_a_proof() -> None:
    assert missing_proofs(public_kinds()) - PROVED_ELSEWHERE == set()
    assert not PROGRAMS.keys() & MOVED


def test_a_new_kind_without_a_proof_is_found() -> None:
    try:
        type("Swish", (Layer,), {"__slots__": (), "__module__": "archcalc.layers.activation"})
        assert missing_proofs(public_kinds()) - PROVED_ELSEWHERE == {"Swish"}
    finally:
        del KINDS["Swish"]


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@given(data=st.data())
def test_names_and_shapes_of_parameters_are_those_of_the_state_dict(kind: str, data: st.DataObject) -> None:
    layer, shapes = data.draw(cases(kind))
    reference = module(layer, shapes)
    state = {} if reference is None else {name: tuple(value.shape) for name, value in reference.state_dict().items()}
    parameters = set() if reference is None else {name for name, _ in reference.named_parameters()}
    stated = {
        operand.name: (nest.shape(operand), operand.role)
        for nest in layer.nests(*shapes)
        for operand in nest.operands
        if operand.role in ("weight", "bias", "buffer")
    }
    assert {name: shape for name, (shape, _) in stated.items()} == state
    assert {name for name, (_, role) in stated.items() if role != "buffer"} == parameters
    assert all(name == role for name, (_, role) in stated.items() if role != "buffer")


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@given(data=st.data())
def test_the_last_nest_writes_the_output_and_reads_come_before(kind: str, data: st.DataObject) -> None:
    layer, shapes = data.draw(cases(kind))
    for nest in layer.nests(*shapes):
        assert [operand.role for operand in nest.operands].count("output") == 1
        assert nest.operands[-1].role == "output"
        assert nest.operands[0].role == "input"
        named = {loop for operand in nest.operands for axis in operand.axes for loop in _loops(axis)}
        assert named == nest.loops.keys()
    assert layer.nests(*shapes)[-1].output == layer.output(*shapes)


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@given(data=st.data())
def test_windows_that_are_stated_are_as_many_as_the_loops_over_them(kind: str, data: st.DataObject) -> None:
    layer, shapes = data.draw(cases(kind))
    first = layer.nests(*shapes)[0]
    for axis, size in zip(first.operands[0].axes, shapes[0], strict=False):
        if isinstance(axis, Window):
            assert axis.outputs(size, first.loops[axis.tap]) == first.loops[axis.out]


def _loops(axis: object) -> set[str]:
    if isinstance(axis, Window):
        return {axis.out, axis.tap}
    if isinstance(axis, Bins):
        return {axis.loop}
    assert isinstance(axis, tuple)
    return set(axis)


# The interpreter itself can fail

PRODUCT = Nest(
    {"N": 2, "K": 3, "C": 4},
    {"mac": 1},
    (
        Operand("input", "input", (("N",), ("C",))),
        Operand("weight", "weight", (("K",), ("C",))),
        Operand("output", "output", (("N",), ("K",))),
    ),
)
ONES = torch.ones(2, 4, dtype=torch.float64), torch.ones(3, 4, dtype=torch.float64)


def run(nest: Nest, ops: Ops) -> torch.Tensor:
    return execute(nest, [ONES[0]], {"weight": ONES[1]}, lambda _, total, x, w: ops.mac(total, x, w), ops)


def test_the_interpreter_runs_a_matrix_product() -> None:
    ops = Ops()
    assert torch.equal(run(PRODUCT, ops), torch.full((2, 3), 4.0, dtype=torch.float64))
    assert ops == {"mac": 24}  # 2·3·4


@pytest.mark.parametrize(
    ("nest", "message"),
    [
        (PRODUCT._replace(loops={"N": 2, "K": 3, "C": 5}), "not 4 long"),
        (PRODUCT._replace(loops={"N": 2, "K": 2, "C": 4}), "not 3 long"),
        (PRODUCT._replace(ops={"mac": 2}), "do what the nest says"),
        (PRODUCT._replace(ops={"mac": 1, "cmp": 1}), "do what the nest says"),
        (PRODUCT._replace(operands=(PRODUCT.operands[0],) * 2 + PRODUCT.operands[1:]), "more inputs than there are"),
        (PRODUCT._replace(operands=(*PRODUCT.operands[:2], Operand("output", "output", (("N",),)))), None),
    ],
)
def test_the_interpreter_notices_a_wrong_nest(nest: Nest, message: str | None) -> None:
    if message is None:  # it runs, but does not compute a matrix product
        assert run(nest, Ops()).shape != (2, 3)
        return
    with pytest.raises(AssertionError, match=message):
        run(nest, Ops())


# Windows and bins


@given(
    size=st.integers(1, 30),
    taps=st.integers(1, 6),
    stride=st.integers(1, 6),
    dilation=st.integers(1, 4),
    before=st.integers(0, 5),
    after=st.integers(0, 5),
)
def test_windows_that_fit_are_those_that_can_be_listed(
    size: int, taps: int, stride: int, dilation: int, before: int, after: int
) -> None:
    window = Window("P", "R", stride, dilation, before, after)
    span = (taps - 1) * dilation + 1
    starts = [start for start in range(-before, size + after) if start + span <= size + after][::stride]
    if starts:
        assert window.outputs(size, taps) == len(starts)
    else:
        assert window.outputs(size, taps) < 1
    assert window.span(taps) == span
    assert window.reach(taps) == span - 1
    assert window.padding() == before + after
    lists = [
        start
        for start in range(-before, size, stride)  # may start in the input or its left padding
        if start - stride + span < size + after or start == -before  # the one before did not reach the end
    ]
    if window.span(taps) <= size + after + before:
        assert window._replace(ceil=True).outputs(size, taps) == len(lists)


@given(size=st.integers(1, 40), count=st.integers(1, 12))
def test_bins_cover_the_axis(size: int, count: int) -> None:
    bins = Bins("T", size, count)
    # torch itself: averaging 1s over the bins of an identity matrix shows which positions each bin holds.
    held = torch.nn.functional.adaptive_avg_pool1d(torch.eye(size).unsqueeze(0), count)[0] > 0
    assert bins.taps() == int(held.sum())
    assert bool(held.any(1).all())


def test_a_ledger_adds_up_by_kind() -> None:
    one, two = Ledger({"mac": 1, "cmp": 2}), Ledger({"cmp": 3, "exp": 4})
    one.add(two)
    assert one == {"mac": 1, "cmp": 5, "exp": 4}
    assert two == {"cmp": 3, "exp": 4}
    assert ledger(()) == {}
    assert ledger((PRODUCT, PRODUCT._replace(ops={"mac": 2, "add": 1}))) == {"mac": 24 + 2 * 24, "add": 24}


def test_channels_are_inferred_from_what_flows_in() -> None:
    assert Conv2d(8, 3).arguments((1, 4, 9, 9))["in_channels"] == 4
    assert Linear(8).arguments((2, 5))["in_features"] == 5
    assert BatchNorm2d().arguments((1, 7, 9, 9))["num_features"] == 7
