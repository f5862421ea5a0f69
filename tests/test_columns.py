"""Reports as tables: columns by name, rows chosen, left out and folded, workings in cells, totals that are sums."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archcalc import Builder, Network, Node, Report, analyze, columns, zoo
from archcalc.columns import COUNTS, DEFAULT, OPERATIONS, TEXTS, names, tabulate
from archcalc.conventions import CONVENTIONS
from archcalc.errors import InputError, UnknownNameError
from archcalc.extents import Shape
from archcalc.graph import Held
from archcalc.layers import BatchNorm2d, Conv2d, Flatten, Input, Layer, Linear, ReLU
from archcalc.table import Cell
from archcalc.working import Equation


@dataclass(frozen=True, slots=True)
class _Mystery(Layer):
    """An operation without a rule; the underscore keeps it out of the list of kinds."""

    counted = False

    def output(self, *inputs: Shape) -> Shape:
        return inputs[0]


def small(*, mystery: bool = False) -> Report:
    # conv: 8·8·4 = 256 outputs, (3·3·3)·4 = 108 weights, 4 biases, 256·27 = 6,912 MACs
    # fc: 10 outputs, 256·10 = 2,560 weights and MACs, 10 biases
    layers: list[Layer] = [Conv2d(4, 3, padding=1), ReLU(inplace=True), Flatten(), Linear(10)]
    return analyze(Network.sequential("small", (1, 3, 8, 8), [*layers, _Mystery()] if mystery else layers))


def column(rows: tuple[tuple[Cell, ...], ...], i: int = 0) -> list[Cell]:
    return [row[i] for row in rows]


def test_long_lists_in_notes_are_cut() -> None:
    bias = (Held("bias", (3,), counted_by="c0"),)
    convs = [Node(f"c{i}", Conv2d(3, 1), ("input",), held=bias if i else ()) for i in range(13)]
    nodes = (Node("input", Input((1, 3, 8, 8)), ()), *convs)
    assert tabulate(analyze(Network("net", nodes)), ["layer", "params"]).notes[-1] == (
        "Parameters that other rows count: " + ", ".join(f"c{i} (by c0)" for i in range(1, 11)) + " and 2 more."
    )
    alone = replace(nodes[1], held=bias)  # a tensor that it holds twice
    assert not any("other" in note for note in tabulate(analyze(Network("net", (nodes[0], alone))), ["macs"]).notes)
    mysteries = analyze(Network.sequential("net", (1, 3, 8, 8), [_Mystery()] * 12))
    listed = ", ".join(f"_mystery{i}" for i in range(1, 11))
    assert mysteries.table().notes[-1] == f"Uncounted, so that the total is a lower bound: {listed} and 2 more."


def test_every_column_of_a_small_network() -> None:
    counted = ["activations", "weights", "biases", "params", "buffers", "macs", "bias_add", "cmp", "cost"]
    table = tabulate(small(), ["layer", *counted], all_rows=True)
    assert table.rows == (
        ("input", 192, 0, 0, 0, 0, 0, 0, 0, 0),
        ("conv2d1", 256, 108, 4, 112, 0, 6912, 256, 0, 6912),
        ("relu1", 0, 0, 0, 0, 0, 0, 0, 256, 0),
        ("flatten1", 0, 0, 0, 0, 0, 0, 0, 0, 0),
        ("linear1", 10, 2560, 10, 2570, 0, 2560, 10, 0, 2560),
    )
    assert table.total == ("total", 458, 2668, 14, 2682, 0, 9472, 266, 256, 9472)
    texts = tabulate(small(), ["layer", "kind", "inputs", "input", "output", "receptive_field", "jump"])
    assert texts.total is None
    assert texts.rows[1] == ("conv2d1", "Conv2d", "input", "1×3×8×8", "1×4×8×8", "3×3", "1×1")
    assert texts.rows[4] == ("linear1", "Linear", "flatten1", "1×256", "1×10", "10×10", None)


def test_defaults() -> None:
    table = small().table()
    assert table.title == "small on 1×3×8×8"
    assert [header.header for header in table.columns] == ["layer", "kind", "output", "activations", "params", "MACs"]
    assert table == tabulate(small(), DEFAULT)


def test_the_total_stands_under_the_first_text_column_if_there_is_one() -> None:
    assert tabulate(small(), ["params", "kind"]).total == (2682, "total")
    assert tabulate(small(), ["params"]).total == (2682,)


def test_rows_that_are_0_everywhere_are_left_out_and_said_to_be() -> None:
    table = tabulate(small(), ["layer", "weights"])
    assert column(table.rows) == ["conv2d1", "linear1"]
    assert table.notes == ("Left out, 0 in every column: 1 Input, 1 ReLU, 1 Flatten (--all shows them).",)
    everything = tabulate(small(), ["layer", "weights"], all_rows=True)
    assert len(everything.rows) == 5
    assert everything.notes == ()
    # without a counted column there is nothing to be 0
    assert len(tabulate(small(), ["layer", "kind"]).rows) == 5


def test_uncounted_operations_are_marked_and_make_the_total_a_lower_bound() -> None:
    table = tabulate(small(mystery=True), ["layer", "params", "macs", "cost", "cmp", "share"])
    assert table.rows[-1] == ("_mystery1", 0, "uncounted", "uncounted", "uncounted", "0.0%")
    assert table.total is not None
    assert table.total[:3] == ("total, at least", 2682, 9472)
    assert table.notes[-1] == "Uncounted, so that the total is a lower bound: _mystery1."
    for format in ("table", "markdown", "latex", "csv", "html"):
        written = table.render(format)
        assert "uncounted" in written
        assert "total, at least" in written
    # not silently left out, even where its columns would be 0; not mentioned where it was not asked for
    assert column(tabulate(small(mystery=True), ["layer", "weights"]).rows)[-1] == "_mystery1"
    assert tabulate(small(mystery=True), layers="linear").total == ("total", None, None, 10, 2570, 2560)


def test_layers_chosen_by_regular_expression() -> None:
    table = tabulate(small(), ["layer", "params"], layers="^(conv|lin)")
    assert column(table.rows) == ["conv2d1", "linear1"]
    assert table.total == ("total", 2682)
    assert table.notes == ("2 of 4 layers; the total is theirs.",)
    with pytest.raises(InputError, match="--layers '\\[' is not a regular expression: unterminated character set"):
        tabulate(small(), layers="[")
    with pytest.raises(InputError, match="no layer of small matches 'pool'"):
        tabulate(small(), layers="pool")


def nested() -> Report:
    net = Builder("nested", (1, 3, 8, 8))
    net.add(Conv2d(4, 1), "stem")
    with net.block("a"):
        net.add(Conv2d(4, 3), "conv")
        with net.block("b"):
            net.add(Conv2d(4, 3), "conv")
            net.add(ReLU(), "relu")
    with net.block("c"):
        net.add(Conv2d(2, 1), "conv")
    return analyze(net.network())


@pytest.mark.parametrize(
    ("depth", "rows"),
    [
        (None, ["input", "stem", "a.conv", "a.b.conv", "a.b.relu", "c.conv"]),
        (1, ["input", "stem", "a", "c"]),
        (2, ["input", "stem", "a.conv", "a.b", "c.conv"]),
        (3, ["input", "stem", "a.conv", "a.b.conv", "a.b.relu", "c.conv"]),
    ],
)
def test_depth_folds_blocks(depth: int | None, rows: list[str]) -> None:
    table = tabulate(nested(), ["layer", "activations"], depth=depth)
    assert column(table.rows) == rows
    assert table.total == tabulate(nested(), ["layer", "activations"]).total


def test_a_folded_block_goes_from_its_first_input_to_its_last_output() -> None:
    shown = ["layer", "kind", "inputs", "input", "output", "receptive_field", "weights", "macs"]
    block, one = tabulate(nested(), shown, depth=1).rows[1:]
    # (3·3·4)·4 weights twice; 6·6 and 4·4 outputs of 4 channels
    assert block == ("a", "3 layers", "stem", "1×4×8×8", "1×4×4×4", "5×5", 288, (36 + 16) * 4 * 36)
    assert one == ("c", "1 layer", "a.b.relu", "1×4×4×4", "1×2×4×4", "5×5", 8, 4 * 4 * 2 * 4)
    filtered = tabulate(nested(), ["layer", "kind", "weights"], depth=1, layers="conv")
    assert filtered.rows == (("a", "2 layers", 288), ("c", "1 layer", 8))


@pytest.mark.parametrize("depth", [0, -1])
def test_depth_must_be_positive(depth: int) -> None:
    with pytest.raises(InputError, match=f"--depth is {depth}; it must be at least 1"):
        tabulate(small(), depth=depth)


def test_working_fills_the_cells_and_leaves_totals_numbers() -> None:
    table = tabulate(small(), ["layer", "weights", "macs", "cost"], working=True)
    cells = table.rows[0][1:]
    assert all(isinstance(cell, Equation) for cell in cells)
    assert [cell.text() for cell in cells if isinstance(cell, Equation)] == [
        "(3·3·3)·4 = 108",
        "8·8·4·(3·3·3) = 6,912",
        "8·8·4·(3·3·3) = 6,912",
    ]
    assert table.total == ("total", 2668, 9472, 9472)
    # the working of another convention's number is not that of its MACs
    assert tabulate(small(), ["layer", "cost"], working=True, convention="flop").rows[0] == ("conv2d1", 2 * 6912)


def test_working_of_a_folded_table_is_that_of_the_rows_not_folded() -> None:
    stem, block = tabulate(nested(), ["layer", "weights"], depth=1, working=True).rows[:2]
    assert isinstance(stem[1], Equation)
    assert stem[1].text() == "(1·1·3)·4 = 12"
    assert block == ("a", 288)


def test_share_is_part_of_the_whole_networks_cost() -> None:
    table = tabulate(small(), ["layer", "share"], layers="conv|linear")
    # 6,912 and 2,560 of 9,472
    assert table.rows == (("conv2d1", "73.0%"), ("linear1", "27.0%"))
    assert tabulate(small(), ["layer", "share"], layers="linear").total == ("total", "27.0%")
    assert table.columns[1].header == "share of MACs"
    nothing = analyze(Network.sequential("nothing", (1, 3), [ReLU()]))
    assert tabulate(nothing, ["share"]).rows == ()
    assert column(tabulate(nothing, ["share"], all_rows=True).rows) == [None, None]


def test_the_cost_column_is_headed_by_its_convention() -> None:
    for name, convention in CONVENTIONS.items():
        table = tabulate(small(), ["cost", "share"], convention=name)
        assert [one.header for one in table.columns] == [convention.header, f"share of {convention.header}"]
    with pytest.raises(UnknownNameError, match=r"unknown convention 'gflops'; .* mac, flop, "):
        tabulate(small(), convention="gflops")


def test_unknown_columns_are_refused_with_the_choices() -> None:
    with pytest.raises(UnknownNameError, match=r"'weight'; did you mean 'weights'.* There are: layer, kind, "):
        tabulate(small(), ["layer", "weight"])
    with pytest.raises(InputError, match="no columns; choose from layer, kind"):
        tabulate(small(), [])


def test_names_are_all_columns_and_each_says_what_it_means() -> None:
    assert list(names()) == [*TEXTS, *COUNTS, "cost", "share", *OPERATIONS]
    assert all(names().values())
    operations = {operation for entry in zoo.ENTRIES.values() for operation in analyze(entry.build()).total.ledger}
    assert operations <= {*OPERATIONS, "mac"}


def test_sweeps_have_a_row_where_anything_in_them_is_not_0() -> None:
    np = pytest.importorskip("numpy")
    H = np.array([8, 16])
    table = tabulate(analyze(small().network, (1, 3, H, H)), ["layer", "activations", "cmp"])
    assert column(table.rows) == ["input", "conv2d1", "relu1", "linear1"]
    assert list(table.rows[1][1]) == [4 * 64, 4 * 256]  # type: ignore[call-overload]


def test_closed_forms_have_a_row_unless_they_are_surely_0() -> None:
    pytest.importorskip("sympy")
    report = analyze(Network.sequential("net", ("N", 3, "H", "W"), [Conv2d(4, 5, stride=8), ReLU(inplace=True)]))
    # ⌊(H − 5)/8⌋ + 1 may be 0 to SymPy, which does not know that H is at least 5
    assert column(tabulate(report, ["layer", "macs"]).rows) == ["conv2d1"]
    assert len(tabulate(report, ["layer", "cmp"]).rows) == 1


@cache
def report(name: str) -> Report:
    return analyze(zoo.find(name).build())


def numbers(text: str) -> int:
    return int(re.sub(r"[{},$\s*]|\\(bfseries|boldmath)|</?t[dh]>", "", text).replace("−", "-") or 0)


ROW_READERS: dict[str, Any] = {
    "table": lambda text: [line.split("│") for line in text.splitlines() if "│" in line],
    "markdown": lambda text: [
        re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|") and ":--" not in line
    ],
    "csv": lambda text: list(csv.reader(io.StringIO(text))),
    "html": lambda text: [re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row) for row in re.findall("<tr>(.*?)</tr>", text)],
    "latex": lambda text: [
        line.removesuffix(r" \\").split("&")
        for line in text.split(r"\endfoot")[1].splitlines()
        if line.endswith(r" \\")
    ],
}


@given(
    st.sampled_from(["alexnet", "vgg11", "resnet18", "resnet50", "inception-reduced"]),
    st.lists(st.sampled_from([*COUNTS, *OPERATIONS, "cost"]), min_size=1, max_size=6, unique=True),
    st.sampled_from(list(ROW_READERS)),
    st.none() | st.integers(1, 3),
    st.none() | st.sampled_from(["conv", "1", "[02468]|pool", "^(?!relu)"]),
    st.sampled_from(list(CONVENTIONS)),
    st.booleans(),
)
def test_totals_are_the_sums_of_the_rows_shown_in_every_format(
    name: str,
    counted: list[str],
    format: str,
    depth: int | None,
    layers: str | None,
    convention: str,
    all_rows: bool,
) -> None:
    shown = ["layer", *counted]
    table = report(name).table(shown, depth=depth, layers=layers, convention=convention, all_rows=all_rows)
    read = ROW_READERS[format](table.render(format))
    *rows, total = read if format == "latex" else read[1:]
    assert len(rows) == len(table.rows)
    assert "total" in total[0]
    for i in range(1, len(shown)):
        assert numbers(total[i]) == sum(numbers(row[i]) for row in rows), shown[i]
    # and those of the rows that the report has
    chosen = [row for row in report(name) if layers is None or re.search(layers, row.name)]
    for cell, column_name in zip(total[1:], counted, strict=True):
        if column_name in COUNTS:
            assert numbers(cell) == sum(getattr(row, column_name) for row in chosen)
        elif column_name in OPERATIONS:
            assert numbers(cell) == sum(row.ledger.get(column_name, 0) for row in chosen)


def test_headers_of_names_that_are_no_columns_are_themselves() -> None:
    assert [columns.header(name) for name in ("macs", "receptive_field", "bias_add", "height")] == [
        "MACs",
        "receptive field",
        "bias additions",
        "height",
    ]


def test_a_convention_may_count_parameters_otherwise() -> None:
    # conv 3·8·3·3 + 8 = 224, batch norm 8 + 8, which Keras says are 4·8
    net = Network.sequential("net", (1, 3, 9, 9), [Conv2d(8, 3), BatchNorm2d()])
    table = tabulate(analyze(net), ["layer", "params"], convention="keras")
    assert table.columns[1].header == "params (keras)"
    assert table.rows == (("conv2d1", 224), ("batchnorm2d1", 32))
    assert table.total == ("total", 256)
    worked = tabulate(analyze(net), ["params"], convention="keras", working=True)
    assert worked.rows == ((224,), (32,))
