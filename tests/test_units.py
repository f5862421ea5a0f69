from __future__ import annotations

import doctest
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archcalc import units


@pytest.fixture(scope="module")
def sp() -> Any:
    return pytest.importorskip("sympy")


@pytest.fixture(scope="module")
def np() -> Any:
    return pytest.importorskip("numpy")


@pytest.mark.parametrize(
    ("n", "expected"),
    [(0, "0"), (999, "999"), (1728, "1,728"), (86704128, "86,704,128"), (-1728, "−1,728"), (10**21, "1" + ",000" * 7)],
)
def test_count_of_an_int_groups_thousands(n: int, expected: str) -> None:
    assert units.count(n) == expected


@pytest.mark.parametrize(
    ("x", "expected"),
    [(1.5, "1.500"), (0.0, "0"), (-0.0, "0"), (1e-5, "0.00001000"), (86704128.0, "86,704,128"), (math.nan, "nan")],
)
def test_count_of_a_float_never_uses_exponents(x: float, expected: str) -> None:
    assert units.count(x) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1728*H*N*W", "1728·N·H·W"),
        ("H**2*N - 1", "N·H^2 − 1"),
        ("C*N*floor(H/2 + 1/2)*ceiling(floor(W/2)/3)", "N·C·⌈⌊W/2⌋/3⌉·⌊H/2 + 1/2⌋"),
        ("N*floor((H + 1)*(W + 1)/4)", "N·⌊(H + 1)·(W + 1)/4⌋"),
        ("2**H*N", "2^H·N"),
        ("N/(H*W)", "N/(H·W)"),
        ("Max(H, N)", "Max(H, N)"),
    ],
)
def test_count_of_a_closed_form(sp: Any, source: str, expected: str) -> None:
    symbols = {name: sp.Symbol(name, integer=True, positive=True) for name in "NCHW"}
    assert units.count(sp.sympify(source, locals=symbols)) == expected


def test_count_of_a_closed_form_keeps_its_value(sp: Any) -> None:
    names = {name: sp.Symbol(name, integer=True, positive=True) for name in "CHNW"}
    C, H, N, W = names.values()
    for expr in (1728 * N * H * W, H**C * N * W, 2**H * N * C, (H - 1) * W / (N * C), C ** (H * N), -H * N + W):
        written = units.count(expr).replace("·", "*").replace("^", "**").replace("−", "-")
        assert sp.sympify(written, locals=names) == expr


def test_count_takes_any_exact_integer(sp: Any, np: Any) -> None:
    assert units.count(sp.Integer(1728)) == "1,728"
    assert units.count(np.int64(1728)) == "1,728"
    assert units.exact(np.int64(1728)) == units.exact(sp.Integer(1728)) == 1728
    assert units.exact(sp.Symbol("N")) is units.exact(1.0) is units.exact("1") is None


def test_count_of_an_array_is_its_range(np: Any) -> None:
    assert units.count(np.linspace(1728, 86704128, 1000).astype(np.int64)) == "1,728 … 86,704,128 (1000 values)"
    assert units.count(np.array([[3, 3], [3, 3]])) == "3 (4 values)"
    assert units.count(np.array([1728])) == "1,728"
    assert units.count(np.array([])) == "(0 values)"
    assert units.count(np.array([1, 10**20], dtype=object)) == "1 … 100,000,000,000,000,000,000 (2 values)"
    assert units.count(np.float32(1.5)) == "1.500"


def test_count_leaves_unbalanced_brackets() -> None:
    assert units.count("a) floor(b") == "a) ⌊b"


def test_latex(sp: Any, np: Any) -> None:
    assert units.latex(1728) == "1{,}728"
    assert units.latex(-1728) == "-1{,}728"
    assert units.latex(1.5) == "1.500"
    N, H, W = sp.symbols("N H W")
    assert units.latex(1728 * N * H**2 * W) == "1728 N H^{2} W"
    assert units.latex(sp.floor(H / 2)) == r"\left\lfloor{\frac{H}{2}}\right\rfloor"
    assert units.latex(sp.Function("f")(H) * N) == r"N f{\left(H \right)}"
    assert units.latex(sp.Integer(1728)) == "1{,}728"
    assert units.latex(np.array([1, 1728])) == r"1 \ldots  1{,}728\ (2\text{ values})"


@pytest.mark.parametrize(
    ("n", "unit", "expected"),
    [
        (143667240, "", "143.7 M"),
        (19632062464, "MAC", "19.63 GMAC"),
        (1728, "", "1.728 K"),
        (999, "MAC", "999 MAC"),
        (0, "", "0"),
        (999_949, "", "999.9 K"),
        (999_951, "", "1.000 M"),
        (-1728, "", "−1.728 K"),
        (3_140_000_000_000, "FLOP", "3.140 TFLOP"),
        (3 * 10**21, "FLOP", "3,000 EFLOP"),
        (12.3456, "", "12.35"),
        (math.inf, "", "inf"),
    ],
)
def test_si(n: float, unit: str, expected: str) -> None:
    assert units.si(n, unit) == expected


def test_si_with_other_digits_and_closed_forms(sp: Any) -> None:
    assert units.si(1728, digits=3) == "1.73 K"
    assert units.si(1728 * sp.Symbol("N"), "MAC") == "1728·N MAC"


@pytest.mark.parametrize(
    ("x", "expected"),
    [(0.457, "45.7%"), (1.0, "100.0%"), (0.0, "0.0%"), (0.0001, "<0.1%"), (-0.25, "−25.0%"), (12.5, "1,250.0%")],
)
def test_percent(x: float, expected: str) -> None:
    assert units.percent(x) == expected


def test_ratio() -> None:
    assert [units.ratio(x) for x in (2.1349, 1, 0.00412, 130.4)] == ["2.13×", "1.00×", "0.00412×", "130×"]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (2.0123, "2.01 s"),
        (0.00123, "1.23 ms"),
        (45.6e-6, "45.6 µs"),
        (999.9e-6, "1.00 ms"),
        (7.5e-9, "7.50 ns"),
        (2e-12, "0.00200 ns"),
        (0, "0 s"),
        (3600, "3,600 s"),
    ],
)
def test_seconds(x: float, expected: str) -> None:
    assert units.seconds(x) == expected


def test_bytes(sp: Any) -> None:
    vgg19_float32 = 4 * 143667240
    assert units.mb(vgg19_float32) == "574.67 MB"
    assert units.mib(vgg19_float32) == "548.05 MiB"
    assert units.mb(0) == "0.00 MB"
    assert units.mb(64) == "<0.01 MB"
    assert units.mb(12_345_678_901) == "12,345.68 MB"
    assert units.mib(4 * sp.Symbol("N")) == "4·N B"


def test_shape(sp: Any) -> None:
    N, H = sp.symbols("N H")
    assert units.shape((1, 64, 224, 224)) == "1×64×224×224"
    assert units.shape((1, 4096)) == "1×4096"
    assert units.shape(()) == "scalar"
    assert units.shape(("N", 3, "H", "W")) == "N×3×H×W"
    assert units.shape((N, 64, sp.floor((H + 1) / 2))) == "N×64×⌊H/2 + 1/2⌋"
    assert units.shape((N, 2 * N, H / 2, H + 1)) == "N×2·N×(H/2)×(H + 1)"


def test_ascii_of_what_the_package_writes() -> None:
    assert units.ascii("(3·3·3)·64 = 1,728") == "(3*3*3)*64 = 1,728"
    assert (
        units.ascii("1×64 −1 ⌊a⌋ ⌈b⌉ … 45.6 µs 3–4 ≥ ≤ ≠ → é 中")
        == "1x64 -1 floor(a) ceil(b) ... 45.6 us 3-4 >= <= != -> ? ?"
    )
    # what tables are drawn with, for a terminal that lacks it
    assert units.ascii("a │ b\n──┼──") == "a | b\n--+--"


@given(st.text(st.characters(codec=None)))
def test_ascii_is_pure_idempotent_and_keeps_ascii(text: str) -> None:
    written = units.ascii(text)
    assert written.isascii()
    assert units.ascii(written) == written
    if text.isascii():
        assert written == text


@given(st.integers())
def test_ints_read_back(n: int) -> None:
    assert int(units.ascii(units.count(n)).replace(",", "")) == n
    assert int(units.latex(n).replace("{,}", "")) == n


@given(st.floats(min_value=1, max_value=1e20))
def test_si_is_within_half_a_unit_of_its_last_digit(x: float) -> None:
    number, _, prefix = units.si(x).partition(" ")
    value = float(number.replace(",", "")) * 1000 ** "_KMGTPE".index(prefix or "_")
    assert math.isclose(value, x, rel_tol=0.5e-3)


def test_doctests() -> None:
    result = doctest.testmod(units)
    assert result.attempted >= 5
    assert not result.failed


def test_import_is_light() -> None:
    heavy = "{'rich', 'sympy', 'numpy', 'torch'}"
    script = f"import sys, archcalc.units as u; u.latex(1); u.count('N'); print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"
