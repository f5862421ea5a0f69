"""Explanations: each is true, complete, and says in letters what it says in numbers."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from archcalc import Network, Node, Report, analyze, zoo
from archcalc.columns import COUNTS
from archcalc.errors import UnknownNameError
from archcalc.explain import explain, explanation, explanation_table, sections
from archcalc.layers import Add, AvgPool2d, Conv2d, Flatten, Input, Layer, Linear
from archcalc.layers.operation import MatMul
from archcalc.working import Equation
from tests.test_columns import _Mystery


@cache
def report(name: str) -> Report:
    return analyze(zoo.find(name).build())


def texts(found: dict[str, Equation]) -> dict[str, str]:
    return {name: equation.text() for name, equation in found.items()}


def chain(*layers: Layer, shape: tuple[int, ...] = (1, 4, 9, 12)) -> Report:
    return analyze(Network.sequential("net", shape, layers))


def evaluate(expression: str) -> int:
    """A working in numbers, computed by Python's own arithmetic on fractions."""
    python = expression.replace(",", "") if "min(" not in expression else expression
    python = python.replace("·", "*").replace("−", "-").replace("⌊", "floor(").replace("⌈", "ceil(")
    python = re.sub(r"\d+", r"F(\g<0>)", python.replace("⌋", ")").replace("⌉", ")"))
    from fractions import Fraction
    from math import ceil, floor

    value = eval(python, {"F": Fraction, "floor": floor, "ceil": ceil, "min": min})
    assert value == int(value)
    return int(value)


@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_every_working_comes_to_the_number_it_explains(name: str) -> None:
    for row in report(name):
        found = explain(report(name), row.name)
        for quantity, equation in found.items():
            expression, _, value = equation.text().rpartition(" = ")
            assert evaluate(expression or value) == int(value.replace(",", "")) == equation.value
            if quantity in COUNTS:
                assert equation.value == getattr(row, quantity)
            elif quantity in row.ledger:
                assert equation.value == row.ledger[quantity]
        explained = set(found) - {"macs"}
        assert {operation for operation in row.ledger if operation != "mac"} <= explained
        assert all(quantity in found for quantity in COUNTS if getattr(row, quantity))


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "inception-reduced"])
def test_the_letters_hold_for_the_numbers_of_their_layer(name: str) -> None:
    """What `[N·P·Q·K·(R·S·C/G)]` comes to with the layer's own N, P, Q, K, R, S, C and G."""
    checked = 0
    for row in report(name):
        if row.kind != "Conv2d":
            continue
        layer: Any = row.node.layer
        _, C, H, W = row.inputs[0]
        N, K, P, Q = row.output
        letters = {"N": N, "C": C, "H": H, "W": W, "K": K, "P": P, "Q": Q, "G": layer.groups}
        letters |= {"R": layer.kernel_size[0], "S": layer.kernel_size[1], "stride": layer.stride[0]}
        letters |= {"padding": layer.padding[0]}
        found = explain(report(name), row.name)
        for quantity in ("activations", "weights", "biases", "params", "macs", "bias_add", "height", "width"):
            if quantity in found:
                python = found[quantity].letters().replace("·", "*").replace("−", "-").replace("/", "//")
                python = python.replace("⌊", "(").replace("⌋", ")")
                assert eval(python, {}, letters) == found[quantity].value, (row.name, quantity)
                checked += 1
    assert checked > 30


def test_a_convolution() -> None:
    assert texts(explain(report("alexnet"), "conv2")) == {
        "height": "⌊(27 + 2·2 − 5)/1⌋ + 1 = 27",
        "width": "⌊(27 + 2·2 − 5)/1⌋ + 1 = 27",
        "receptive_field": "19 + (5 − 1)·8 = 51",
        "activations": "27·27·256 = 186,624",
        "weights": "(5·5·96/2)·256 = 307,200",
        "biases": "256",
        "params": "(5·5·96/2)·256 + 256 = 307,456",
        "macs": "27·27·256·(5·5·96/2) = 223,948,800",
        "bias_add": "27·27·256 = 186,624",
    }


def test_the_height_and_width_of_unequal_kernels() -> None:
    found = chain(Conv2d(2, (3, 5), stride=(2, 3), padding=(1, 0), bias=False))
    written = texts(explain(found, "conv2d1"))
    # ⌊(9 + 2 − 3)/2⌋ + 1 and ⌊(12 − 5)/3⌋ + 1
    assert written["height"] == "⌊(9 + 2·1 − 3)/2⌋ + 1 = 5"
    assert written["width"] == "⌊(12 − 5)/3⌋ + 1 = 3"
    assert written["receptive field H"] == "1 + (3 − 1)·1 = 3"
    assert written["receptive field W"] == "1 + (5 − 1)·1 = 5"
    assert "biases" not in written
    assert written["params"] == written["weights"] == "(3·5·4)·2 = 120"


def test_a_batch_is_written_where_there_is_one() -> None:
    one, eight = (analyze(zoo.vgg19(), (n, 3, 224, 224)) for n in (1, 8))
    assert explain(one, "fc8")["macs"].text() == "1000·4096 = 4,096,000"
    assert explain(eight, "fc8")["macs"].text() == "8·1000·4096 = 32,768,000"
    assert explain(eight, "conv1_1")["activations"].text() == "8·224·224·64 = 25,690,112"
    assert explain(one, "conv1_1")["weights"].text() == explain(eight, "conv1_1")["weights"].text()


def test_a_linear_layer_after_a_flatten_shows_what_was_flattened() -> None:
    found = explain(report("vgg19"), "fc6")["weights"]
    assert found.text() == "(7·7·512)·4096 = 102,760,448"
    assert found.letters() == "(H·W·C)·K"
    assert found.latex() == r"(7 \cdot 7 \cdot 512) \cdot 4096 = 102{,}760{,}448"
    assert explain(report("vgg19"), "fc7")["weights"].letters() == "C·K"


def test_branches() -> None:
    concat = explain(report("inception-reduced"), "concat")["activations"]
    assert concat.text() == "32·32·(128 + 192 + 96 + 64) = 491,520"
    assert concat.letters() == "N·H·W·(C1 + C2 + C3 + C4)"


def test_what_is_0_has_nothing_to_explain() -> None:
    assert explain(report("alexnet"), "flatten") == {}
    assert set(explain(report("alexnet"), "relu1")) == {"cmp"}
    assert "biases" not in explain(analyze(zoo.vgg19(bias=False)), "conv1_1")


def test_an_unknown_layer() -> None:
    for make in (explain, sections, explanation, explanation_table):
        with pytest.raises(UnknownNameError, match="unknown layer 'conv1'; did you mean 'conv1_1' or 'conv1_2'"):
            make(report("vgg19"), "conv1")


def test_the_sums_are_the_rows_and_come_to_the_totals() -> None:
    for name in ("alexnet", "resnet34", "inception-naive"):
        last = sections(report(name))[-1]
        assert last.name == last.title == "total"
        for quantity, equation in last.equations.items():
            terms = [int(term.replace(",", "")) for term in equation.text().rpartition(" = ")[0].split(" + ")]
            assert terms == [getattr(row, quantity) for row in report(name) if getattr(row, quantity)]
            assert sum(terms) == equation.value == getattr(report(name).total, quantity)


def test_the_text() -> None:
    assert explanation(chain(Conv2d(2, 1), Flatten(), Linear(3))) == (
        "net on 1×4×9×12\n"
        "\n"
        "input (Input): 1×4×9×12\n"
        "  activations  9·12·4 = 432    [N·H·W·C]\n"
        "\n"
        "conv2d1 (Conv2d): 1×4×9×12 → 1×2×9×12\n"
        "  height           ⌊(9 − 1)/1⌋ + 1 = 9    [⌊(H + 2·padding − R)/stride⌋ + 1]\n"
        "  width            ⌊(12 − 1)/1⌋ + 1 = 12    [⌊(W + 2·padding − S)/stride⌋ + 1]\n"
        "  receptive field  1    [r + (R − 1)·jump]\n"
        "  activations      9·12·2 = 216    [N·P·Q·K]\n"
        "  weights          (1·1·4)·2 = 8    [(R·S·C/G)·K]\n"
        "  biases           2    [K]\n"
        "  params           (1·1·4)·2 + 2 = 10    [(R·S·C/G)·K + K]\n"
        "  MACs             9·12·2·(1·1·4) = 864    [N·P·Q·K·(R·S·C/G)]\n"
        "  bias additions   9·12·2 = 216    [N·P·Q·K]\n"
        "\n"
        "linear1 (Linear): 1×216 → 1×3\n"
        "  activations     3    [N·K]\n"
        "  weights         (9·12·2)·3 = 648    [(H·W·C)·K]\n"
        "  biases          3    [K]\n"
        "  params          (9·12·2)·3 + 3 = 651    [(H·W·C)·K + K]\n"
        "  MACs            3·(9·12·2) = 648    [N·K·(H·W·C)]\n"
        "  bias additions  3    [N·K]\n"
        "\n"
        "total\n"
        "  activations  432 + 216 + 3 = 651\n"
        "  weights      8 + 648 = 656\n"
        "  biases       2 + 3 = 5\n"
        "  params       10 + 651 = 661\n"
        "  MACs         864 + 648 = 1,512\n"
        "\n"
        "N batch; C channels in; H height; W width; K channels out; P output height; Q output width; "
        "R kernel height; S kernel width; G groups; r receptive field of what flows in; jump its step\n"
    )


def test_the_table_holds_what_the_text_holds() -> None:
    table = explanation_table(report("alexnet"))
    text = explanation(report("alexnet"))
    assert len(table.rows) == len(re.findall("^  ", text, re.MULTILINE))
    assert all(equation.text() in text for _, _, equation, _ in table.rows)  # type: ignore[attr-defined]
    assert table.rows[-1][3] is None
    latex = table.to_latex()
    assert r"$(11 \cdot 11 \cdot 3) \cdot 96 = 34{,}848$ & $(R \cdot S \cdot C/G) \cdot K$" in latex
    assert "| (11·11·3)·96 = 34,848" in table.to_markdown()


def test_totals_with_uncounted_operations_are_lower_bounds() -> None:
    assert sections(chain(Conv2d(2, 1), _Mystery()))[-1].title == "total, at least"


def test_closed_forms_of_a_pool_that_may_leave_nothing() -> None:
    pytest.importorskip("sympy")
    found = analyze(Network.sequential("net", (1, 4, 9, 9), [AvgPool2d(3), Conv2d(2, 3)]), ("N", 4, "H", "H"))
    last = sections(found)[-1]
    # ⌊H/3⌋ − 2 may be 0 to SymPy; a sum must not forget it for that
    assert "macs" in last.equations
    assert last.equations["macs"].value == found.total.macs
    assert last.equations["activations"].value == found.total.activations


def test_two_inputs() -> None:
    from archcalc import Builder

    net = Builder("residual", (1, 4, 8, 8))
    start = net.last
    net.add(Conv2d(4, 3, padding=1), "conv")
    net.add(Add(), "add", after=(net.last, start))
    found = sections(analyze(net.network()), "add")
    assert found[0].title == "add (Add): 1×4×8×8 and 1×4×8×8 → 1×4×8×8"
    assert texts(found[0].equations)["add"] == "8·8·4 = 256"


def test_rows_of_a_matrix_are_no_height() -> None:
    nodes = (
        Node("a", Input((2, 5, 3)), ()),
        Node("b", Input((2, 3, 7)), ()),
        Node("bmm", MatMul("bmm"), ("a", "b")),
    )
    text = explanation(analyze(Network("net", nodes)), "bmm")
    assert "2·5·7·3 = 210" in text
    assert "M rows of a matrix" in text
    assert "height" not in text
