"""Workings: what is written evaluates to the number, in figures and in letters."""

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from hypothesis import given
from hypothesis import strategies as st

from archcalc import analyze, working
from archcalc.explain import explain
from archcalc.extents import Extent
from archcalc.graph import Builder, Network
from archcalc.layers import Concat, Conv2d, Flatten, Linear, MaxPool2d, PadChannels
from archcalc.working import Equation, Worked, ceil_div, exact_div, group, leaf, minimum
from tests.strategies import networks


def evaluate(text: str, **letters: int) -> int:
    """The value of a written expression, computed with exact fractions by Python's own parser."""
    code = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    for sign, python in {"·": "*", "−": "-", "⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")"}.items():
        code = code.replace(sign, python)
    code = re.sub(r"(?<![A-Za-z])\d+", r"Fraction(\g<0>)", code)
    names: dict[str, Any] = {letter: Fraction(value) for letter, value in letters.items()}
    known = {"Fraction": Fraction, "floor": math.floor, "ceil": math.ceil, "min": min, "__builtins__": {}}
    value = Fraction(eval(code, known | names))
    assert value.denominator == 1, f"{text} is {value}"
    return int(value)


def evaluate_equation(text: str) -> tuple[int, int]:
    """Both sides of `expression = value`, or the value twice where there is only one."""
    left, _, right = text.rpartition(" = ")
    assert "=" not in left
    return evaluate(left or right), evaluate(right)


LATEX = {"{,}": "", r"\cdot": "·", r"\min": "min", r"\left\lfloor": "⌊", r"\right\rfloor": "⌋"}
LATEX |= {r"\left\lceil": "⌈", r"\right\rceil": "⌉"}


def plain(latex: str) -> str:
    r"""LaTeX as plain text: \frac{a}{b} as ((a)/(b)), nothing that is not known left over."""
    for command, sign in LATEX.items():
        latex = latex.replace(command, sign)
    while r"\frac" in latex:  # innermost first: its two arguments hold no braces
        latex, found = re.subn(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", latex)
        assert found, latex
    assert not re.search(r"[\\{}]", latex), latex
    return latex


def leaves(number: Worked) -> list[Worked]:
    return [leaf for arg in number.args for leaf in leaves(arg)] if number.args else [number]


def bindings(number: Worked) -> dict[str, set[int]]:
    """What each letter of an expression stands for."""
    result: dict[str, set[int]] = {}
    for leaf_ in leaves(number):
        if leaf_.letter:
            result.setdefault(leaf_.letter, set()).add(leaf_.value)
    return result


@given(networks())
def test_every_number_of_a_row_is_explained_and_the_text_evaluates_to_it(network: Network) -> None:
    report = analyze(network)
    for row in report:
        numbers: dict[str, Extent] = {
            "activations": row.activations,
            "weights": row.weights,
            "biases": row.biases,
            "buffers": row.buffers,
            "params": row.params,
            "macs": row.macs,
            **{op: amount for op, amount in row.ledger.items() if op != "mac"},
        }
        equations = explain(report, row.name)
        explained = {column: equations.pop(column).value for column in list(equations) if column in numbers}
        assert explained == {column: number for column, number in numbers.items() if number != 0}
        windows: dict[str, Extent] = dict(zip(("height", "width"), row.output[2:], strict=False))
        for letter, field in zip("HW", row.fields, strict=False):
            if field is not None:
                windows[f"receptive field {letter}"] = windows["receptive_field"] = field.size
        assert {column: equation.value for column, equation in equations.items()} == {c: windows[c] for c in equations}
        for equation in explain(report, row.name).values():
            assert evaluate_equation(equation.text()) == (equation.value, equation.value)
            assert evaluate_equation(plain(equation.latex())) == (equation.value, equation.value)


@given(networks())
def test_letters_stand_for_numbers_with_which_they_give_the_value(network: Network) -> None:
    # What a rule itself says: 2·padding, + 1, n - 1 additions of n summands, channels that are padded.
    constants = {1, 2, *(node.layer.channels for node in network if isinstance(node.layer, PadChannels))}
    report = analyze(network)
    for row in report:
        for equation in explain(report, row.name).values():
            letters = equation.letters()
            assert {int(number) for number in re.findall(r"(?<![A-Za-z])\d+", letters)} <= constants
            bound = bindings(equation.number)
            assert set(re.findall(r"[A-Za-z]+\d*", letters)) <= bound.keys() | {"min"}
            if all(len(values) == 1 for values in bound.values()):
                assert evaluate(letters, **{letter: min(values) for letter, values in bound.items()}) == equation.value


def test_windowed_layers_explain_height_width_and_receptive_field() -> None:
    builder = Builder("net", (1, 3, 9, 12))
    builder.add(Conv2d(4, (3, 5), stride=2, padding=1), "conv")
    builder.add(MaxPool2d(2, ceil_mode=True), "pool")
    report = analyze(builder.network())
    text = {column: equation.text() for column, equation in explain(report, "conv").items()}
    assert text["height"] == "⌊(9 + 2·1 − 3)/2⌋ + 1 = 5"
    assert text["width"] == "⌊(12 + 2·1 − 5)/2⌋ + 1 = 5"
    assert text["receptive field H"] == "1 + (3 − 1)·1 = 3"
    assert text["receptive field W"] == "1 + (5 − 1)·1 = 5"
    assert explain(report, "conv")["height"].letters() == "⌊(H + 2·padding − R)/stride⌋ + 1"
    assert text["weights"] == "(3·5·3)·4 = 180"
    assert text["macs"] == "5·5·4·(3·5·3) = 4,500"  # 25·4 = 100 outputs of 45 taps
    pooled = explain(report, "pool")
    # In letters the rule is whole, whatever the numbers: here the padding is 0.
    assert pooled["height"].letters() == "min(⌈(H + 2·padding − R)/stride⌉ + 1, ⌈(H + padding)/stride⌉)"
    assert pooled["height"].text() == "min(⌈(5 − 2)/2⌉ + 1, ⌈5/2⌉) = 3"
    assert pooled["receptive field H"].text() == "3 + (2 − 1)·2 = 5"
    assert pooled["receptive field W"].letters() == "r + (S − 1)·jump"


def test_a_flatten_is_shown_as_the_product_it_makes() -> None:
    report = analyze(Network.sequential("net", (1, 512, 7, 7), [Flatten(), Linear(4096)]))
    equation = explain(report, "linear1")["weights"]
    assert equation.text() == "(7·7·512)·4096 = 102,760,448"  # 25088·4096
    assert equation.letters() == "(H·W·C)·K"


def test_a_concatenation_is_shown_in_the_order_of_its_inputs() -> None:
    builder = Builder("net", (1, 3, 4, 4))
    source = builder.last
    ends = [builder.add(Conv2d(width, 1), after=source) for width in (5, 6, 7)]
    builder.add(Concat(), "join", after=ends)
    assert explain(analyze(builder.network()), "join")["activations"].text() == "4·4·(5 + 6 + 7) = 288"  # 16·18


COLUMNS = ("activations", "weights", "biases", "buffers", "params", "macs")


@given(networks(most=4, blocks=3))
def test_explanations_of_closed_forms_have_the_rows_values(network: Network) -> None:
    n, c, h, w = network.input_nodes[0].layer.output()
    report = analyze(network, ("N", c, "H", "W"))
    values = {"N": n, "H": h, "W": w}
    for row in report:
        numbers = {column: sympy.sympify(getattr(row, column)).subs(values) for column in COLUMNS}
        explained = {column: sympy.sympify(e.value).subs(values) for column, e in explain(report, row.name).items()}
        assert {c: n for c, n in explained.items() if c in COLUMNS} == {c: n for c, n in numbers.items() if n != 0}


@given(networks(most=4, blocks=3))
def test_explanations_of_sweeps_have_the_rows_values(network: Network) -> None:
    n, c, h, w = network.input_nodes[0].layer.output()
    report = analyze(network, (n, c, np.array([h, h + 1]), w))
    for row in report:
        equations = explain(report, row.name)
        for column in COLUMNS:
            number = getattr(row, column)
            assert np.all((equations[column].value if column in equations else 0) == number)
        for equation in equations.values():
            assert "values)" in equation.text() or np.ndim(equation.value) == 0
            expression, _, value = equation.text().rpartition(" = ")
            assert expression != f"({value})"


# Worked numbers by themselves


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> Worked:
    if depth == 0 or draw(st.booleans()):
        return leaf(draw(st.sampled_from("ABC")), draw(st.integers(1, 9)))
    a, b = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    operation = draw(st.sampled_from(["+", "-", "*", "//", "ceil", "min", "group", "+1", "1-", "2*"]))
    if operation in ("//", "ceil"):
        b = leaf("D", draw(st.integers(1, 9)))
    return {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "//": lambda: a // b,
        "ceil": lambda: ceil_div(a, b),
        "min": lambda: minimum(a, b),
        "group": lambda: group(a) * b,
        "+1": lambda: a + 1,
        "1-": lambda: 1 - a,
        "2*": lambda: 2 * a,
    }[operation]()


@given(expressions())
def test_any_expression_is_written_so_that_it_evaluates_to_its_value(number: Worked) -> None:
    equation = Equation(number)
    assert evaluate_equation(equation.text()) == (number.value, number.value)
    bound = bindings(number)
    if all(len(values) == 1 for values in bound.values()):
        assert evaluate(equation.letters(), **{letter: min(values) for letter, values in bound.items()}) == number.value


def test_a_quotient_is_multiplied_back() -> None:
    quotient = exact_div(leaf("C", 96), leaf("G", 2))
    assert Equation(leaf("G", 2) * quotient).letters() == "C"
    assert Equation(quotient).text() == "96/2 = 48"
    assert Equation(exact_div(leaf("C", 96), leaf("G", 1))).text() == "96"


def test_equality_and_difference_look_at_values() -> None:
    assert leaf("A", 3) + 1 == leaf("B", 4)
    assert leaf("A", 3) != 4
    assert working.differ(leaf("A", 3), leaf("A", 4))
    assert not working.differ(leaf("A", 3), 3)


def test_latex_of_an_equation() -> None:
    taps = group(leaf("R", 3) * leaf("S", 3) * leaf("C", 3)) * leaf("K", 64)
    assert Equation(taps).latex() == r"(3 \cdot 3 \cdot 3) \cdot 64 = 1{,}728"
    assert Equation(taps).latex_letters() == r"(R \cdot S \cdot C) \cdot K"
    assert Equation((leaf("H", 9) - leaf("R", 3)) // leaf("stride", 2)).latex() == (
        r"\left\lfloor \frac{9 - 3}{2} \right\rfloor = 3"
    )
