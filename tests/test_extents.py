"""Three kinds of number, one rule: ints, closed forms and sweeps agree, and no sweep ever wraps round."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from archcalc import analyze
from archcalc.analysis import Costs, Report
from archcalc.errors import InputError, ShapeError
from archcalc.extents import as_shape, ceil_div, differ, exact_div, minimum, prod, same, surely, tidy
from archcalc.graph import Network
from archcalc.layers import Conv2d, Flatten, Linear, MaxPool2d
from archcalc.nest import Window
from archcalc.sweeps import Sweep, as_sweep
from tests.strategies import networks

N, H, W = (sympy.Symbol(name, integer=True, positive=True) for name in "NHW")
whole = st.integers(1, 10**6)


def counts(costs: Costs) -> dict[str, Any]:
    names = ("activations", "weights", "biases", "params", "buffers", "macs")
    return {name: getattr(costs, name) for name in names} | dict(costs.ledger)


def everything(report: Report) -> list[Any]:
    """Every number of a report, in one order."""
    numbers: list[Any] = []
    for row in report:
        numbers += [*row.output, *counts(row).values()]
        numbers += [n for field in row.fields if field for n in field]
    return [*numbers, *counts(report.total).values()]


def int_report(network: Network, shape: tuple[int, ...], like: Report) -> list[Any]:
    """Every number of the report on ints, but the fields that `like` does not know."""
    report = analyze(network, shape)
    numbers: list[Any] = []
    for row, other in zip(report, like, strict=True):
        numbers += [*row.output, *counts(row).values()]
        numbers += [n for field, seen in zip(row.fields, other.fields, strict=True) if field and seen for n in field]
    return [*numbers, *counts(report.total).values()]


def substituted(expression: Any, values: dict[Any, int]) -> Any:
    return expression.subs(values) if isinstance(expression, sympy.Basic) else expression


@given(networks(most=6, blocks=3), st.integers(0, 3), st.integers(0, 9), st.integers(0, 9))
def test_a_closed_form_with_numbers_put_in_is_the_report_on_these_numbers(
    network: Network, n: int, h: int, w: int
) -> None:
    own = network.input_nodes[0].layer.output()
    closed = analyze(network, ("N", own[1], "H", "W"))
    shape = (own[0] + n, own[1], own[2] + h, own[3] + w)
    values = {N: shape[0], H: shape[2], W: shape[3]}
    found = [substituted(number, values) for number in everything(closed)]
    assert found == int_report(network, shape, closed)


@given(networks(most=8), st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=4))
def test_a_sweep_is_the_report_on_ints_at_every_point(network: Network, more: list[tuple[int, int, int]]) -> None:
    own = network.input_nodes[0].layer.output()
    n, h, w = (np.array(column) for column in zip(*more, strict=True))
    sweep = analyze(network, (n + own[0], own[1], h + own[2], w + own[3]))
    found = [np.broadcast_to(number, n.shape) for number in everything(sweep)]
    for i, (dn, dh, dw) in enumerate(more):
        point = (own[0] + dn, own[1], own[2] + dh, own[3] + dw)
        assert [int(number[i]) for number in found] == int_report(network, point, sweep)


def test_axes_of_a_sweep_broadcast() -> None:
    network = Network.sequential("net", (1, 3, 9, 9), [Conv2d(4, 3)])
    macs = analyze(network, (np.array([[1], [2]]), 3, np.array([9, 10, 11]), 9)).total.macs
    # N·P·Q·K·(R·S·C) with P = H - 2 and Q = 7: N·P·7·4·27
    assert macs.tolist() == [[n * (h - 2) * 7 * 4 * 27 for h in (9, 10, 11)] for n in (1, 2)]


def test_closed_forms_are_expressions_in_the_letters_given() -> None:
    network = Network.sequential("net", (1, 3, 9, 9), [Conv2d(64, 3, padding=1), Flatten(), Linear(10)])
    report = analyze(network, ("N", 3, "H", "W"))
    assert sympy.expand(report["conv2d1"].macs - 1728 * N * H * W) == 0  # 3·3·3·64 = 1728
    assert sympy.expand(report["linear1"].weights - 640 * H * W) == 0  # 64·10 = 640
    assert analyze(network, (2 * N, 3, H, H + 1))["conv2d1"].macs.subs({N: 1, H: 4}) == 2 * 1728 * 4 * 5


@given(whole, whole)
def test_rounding_division_and_minimum_agree_for_all_kinds_of_number(a: int, b: int) -> None:
    for rule, expected in (
        (ceil_div, (a + b - 1) // b),
        (minimum, a if a < b else b),
        (lambda x, y: exact_div(x * y, y), a),
        (lambda x, y: x // y, sympy.Integer(a) // b),
        (lambda x, y: prod((x, y)), a * b),
    ):
        assert rule(a, b) == expected
        assert rule(H, W).subs({H: a, W: b}) == expected
        assert rule(as_sweep([a]), as_sweep([b])).tolist() == [expected]
        assert rule(as_sweep([a]), b).tolist() == [expected]


@given(whole, whole)
def test_differ_decides_where_it_can(a: int, b: int) -> None:
    assert differ(a, b) is (a != b)
    assert differ(as_sweep([a, b]), b) is (a != b)
    assert differ(H + a, H + b) is (a != b)
    assert differ(H, W)  # a closed form holds for all values of its letters
    assert differ(H + a, 2 * H)
    assert differ(2 * (H // 2), H) is False  # equal where H is even
    assert same(H + a, H + b) is (a == b)
    assert not same(H, a)
    assert same(as_sweep([a, a]), b) is (a == b)
    assert surely(a < b) is (a < b)
    assert surely(np.array([False, a < b])) is (a < b)
    assert surely(a > H) is False  # undecided
    assert surely(H > 0)  # a positive whole number always is
    assert not surely(H < 1)
    assert prod(()) == 1


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(0, 60))
def test_merged_floors_have_the_same_value(s: int, t: int, k: int, h: int) -> None:
    window = Window("P", "R", s, before=1, after=1)
    nested = Window("P", "R", t, before=k, after=k).outputs(window.outputs(H, 2), 1)
    inner = (h + 1 + 2 - 2) // s + 1
    assert tidy(nested).subs(H, h + 1) == nested.subs(H, h + 1) == (inner + 2 * k - 1) // t + 1
    assert tidy(7) == 7


def test_nested_floors_are_merged_only_where_their_values_agree() -> None:
    halves = sympy.floor(sympy.floor(H / 2) / 2)
    assert tidy(halves) == sympy.floor(H / 4)
    # A layer's rows show the merged form: two pools of 2 leave ⌊H/4⌋, not ⌊⌊H/2⌋/2⌋.
    network = Network.sequential("net", (1, 3, 9, 9), [MaxPool2d(2), MaxPool2d(2)])
    assert analyze(network, ("N", 3, "H", "W")).rows[-1].output == (N, 3, sympy.floor(H / 4), sympy.floor(W / 4))
    # ⌊(⌊3/2⌋ + 1/2)/2⌋ is 0, ⌊(3/2 + 1/2)/2⌋ is 1: what is added must be known to be whole.
    x = sympy.Symbol("x")
    kept = sympy.floor((sympy.floor(H / 2) + x) / 2)
    assert tidy(kept).subs({H: 3, x: sympy.Rational(1, 2)}) == 0
    # ⌊⌊H/2⌋·W/2⌋ keeps its inner floor, which is no term of a sum but a factor.
    product = sympy.floor(sympy.floor(H / 2) * W / 2)
    assert tidy(product).subs({H: 3, W: 3}) == product.subs({H: 3, W: 3}) == 1


# Overflow

LIMIT = 2**63 - 1
large = st.integers(1, LIMIT) | st.integers(1, 40).map(lambda bits: 2**bits) | st.integers(LIMIT - 3, LIMIT)
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "ceil_div": ceil_div,
    "minimum": minimum,
    "prod": lambda a, b: prod((a, b, a)),
    "polynomial": lambda a, b: (a - 1) * b + a * a - b * 2,
}


@pytest.mark.parametrize("name", OPERATIONS)
@given(st.lists(st.tuples(large, large), min_size=1, max_size=3), st.sampled_from(["both", "left", "right"]))
def test_a_sweep_is_exact_or_an_error_but_never_wraps(name: str, points: list[tuple[int, int]], swept: str) -> None:
    rule = OPERATIONS[name]
    if swept == "left":
        points = [(a, points[0][1]) for a, _ in points]
    if swept == "right":
        points = [(points[0][0], b) for _, b in points]
    a = as_sweep([a for a, _ in points]) if swept != "right" else points[0][0]
    b = as_sweep([b for _, b in points]) if swept != "left" else points[0][1]
    try:
        found = rule(a, b)
    except InputError:
        steps = [value for x, y in points for value in (x + y, x * y, x * x * y, y * 2, x * x)]
        assert max(steps) > LIMIT
    else:
        assert type(found) is Sweep
        assert found.tolist() == [rule(x, y) for x, y in points]


def test_an_overflow_is_noticed_wherever_it_happens_in_a_sweep() -> None:
    network = Network.sequential("net", (1, 3, 9, 9), [Conv2d(64, 3, padding=1)])
    with pytest.raises(InputError, match=r"larger than int64 holds.*smaller extents, or plain ints"):
        # 1728·N·H·W = 1728·2^21·2^16·2^16 = 1728·2^53 > 2^10·2^53 = 2^63
        assert analyze(network, (2**21, 3, np.array([8, 2**16, 8]), 2**16)).total.macs is None
    assert analyze(network, (2**21, 3, 2**16, 2**16)).total.macs == 1728 * 2**53
    fits = analyze(network, (np.array([2**20]), 3, 2**15, 2**15)).total.macs
    assert fits.tolist() == [1728 * 2**50]


@pytest.mark.parametrize("factor", [2**63, 2**64 + 1, 10**30])
def test_a_plain_int_that_int64_does_not_hold_is_an_error_beside_a_sweep(factor: int) -> None:
    rules: list[Callable[[Any], Any]] = [lambda x: x * factor, lambda x: factor + x, lambda x: x - factor]
    for rule in rules:
        with pytest.raises(InputError, match="larger than int64 holds"):
            rule(as_sweep([1]))


def test_a_total_of_rows_that_fit_does_not_wrap() -> None:
    network = Network.sequential("net", (1, 1, 9, 9), [Conv2d(1, 1, bias=False), Conv2d(1, 1, bias=False)])
    report = analyze(network, (np.array([2**62]), 1, 1, 1))
    assert report["conv2d1"].macs.tolist() == [2**62]
    with pytest.raises(InputError, match="int64"):
        assert report.total.macs is None  # 2^62 + 2^62 = 2^63


REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "sum": np.sum,
    "prod": np.prod,
    "cumsum": np.cumsum,
    "square": np.square,
    "power": lambda x: x**2,
    "matmul": lambda x: x @ x,
    "shift": lambda x: x << 3,
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_what_a_user_does_with_a_sweep_does_not_wrap_either(name: str) -> None:
    sweep = as_sweep([2**62, 2**62])
    with pytest.raises(InputError):
        REDUCTIONS[name](sweep)


# What an input shape may be


@pytest.mark.parametrize(
    ("given_shape", "shape"),
    [
        ((1, 3, 9, 9), (1, 3, 9, 9)),
        ([1, 3, 9, 9], (1, 3, 9, 9)),
        (("N", 3, "H", "W"), (N, 3, H, W)),
        ((N, 3, H, 2 * W), (N, 3, H, 2 * W)),
        ((np.int64(2), 3), (2, 3)),
        ((10**30, 3), (10**30, 3)),
        (np.array([1, 3, 9, 9]), (1, 3, 9, 9)),
    ],
)
def test_shapes_that_are_accepted(given_shape: Any, shape: tuple[Any, ...]) -> None:
    found = as_shape(given_shape)
    assert found == shape
    assert [type(extent) for extent in found] == [type(extent) for extent in shape]


def test_arrays_become_sweeps() -> None:
    for values in ([1, 2], np.array([1, 2], dtype=np.uint8), np.array([1, 2], dtype=np.int32)):
        (sweep,) = as_shape((np.asarray(values),))
        assert type(sweep) is Sweep
        assert sweep.dtype == np.int64
        assert sweep.tolist() == [1, 2]


BAD_EXTENTS: list[Any] = [0, -3, 1.5, 3.0, True, False, None, "", "1", "a b", "2N", b"3", [], {}, 1j]
BAD_EXTENTS += [np.array([1, 0]), np.array([1.5]), np.array([True]), np.array([]), np.float64(3), np.bool_(True)]
BAD_EXTENTS += [np.array([2**63], dtype=np.uint64), np.array(["a"])]


@pytest.mark.parametrize("extent", BAD_EXTENTS, ids=repr)
def test_an_extent_that_is_no_positive_whole_number_is_an_error(extent: Any) -> None:
    with pytest.raises(InputError, match=r"has the extent .*; an extent is a positive whole number, a name such as"):
        as_shape((1, extent, 9, 9))


@pytest.mark.parametrize("extent", [sympy.Integer(0), sympy.Integer(-2), sympy.Rational(1, 2), sympy.Float(1.5), -H])
def test_an_expression_that_is_no_positive_whole_number_is_an_error(extent: Any) -> None:
    with pytest.raises(InputError):
        as_shape((1, extent, 9, 9))


@pytest.mark.parametrize("given_shape", ["12", "", 12, [], (), True])
def test_what_is_no_sequence_of_extents_is_an_error(given_shape: Any) -> None:
    with pytest.raises(InputError, match="an input shape is a sequence of extents such as"):
        as_shape(given_shape)


@pytest.mark.parametrize("given_shape", [1.5, None, iter([1, 2]), H], ids=["float", "None", "iterator", "symbol"])
def test_what_has_no_length_is_an_error(given_shape: Any) -> None:
    with pytest.raises(InputError):
        as_shape(given_shape)


def test_a_sweep_together_with_a_letter_is_an_error() -> None:
    with pytest.raises(InputError, match="mixes names and arrays; use one or the other"):
        as_shape((np.array([1, 2]), 3, "H", 9))


def test_a_point_of_a_sweep_at_which_a_kernel_does_not_fit_is_an_error() -> None:
    network = Network.sequential("net", (1, 3, 9, 9), [MaxPool2d(4)])
    assert analyze(network, (1, 3, np.array([4, 5]), 4)).total.macs == 0
    with pytest.raises(ShapeError, match=r"maxpool2d1 \(MaxPool2d\).*a kernel that spans 4 is larger than the padded"):
        analyze(network, (1, 3, np.array([9, 3]), 9))
