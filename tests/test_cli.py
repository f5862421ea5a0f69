"""The command line as its users meet it: what it prints, where, with which exit status; bad input; files and pipes."""

from __future__ import annotations

import csv
import doctest
import io
import json
import os
import pty
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from archcalc import __version__, analyze, columns, explain, names, targets, zoo
from archcalc.cli import COMMANDS
from archcalc.conventions import CONVENTIONS
from tests.conftest import Shell


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "archcalc", *arguments], capture_output=True, env={**os.environ, **environment}
    )


# Reading back what was written


def markdown_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in lines]
    assert all(re.fullmatch(":?-+:?", cell) for cell in rows[1])
    return [rows[0], *rows[2:]]


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.inside = tag in ("td", "th")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def html_rows(text: str) -> list[list[str]]:
    reader = Cells()
    reader.feed(text)
    reader.close()
    return reader.rows


def csv_rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def terminal_rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in re.split("[|│]", line)] for line in text.splitlines() if re.search("[|│]", line)]


READERS = {"table": terminal_rows, "markdown": markdown_rows, "csv": csv_rows, "html": html_rows}


def number(text: str) -> int:
    return int(text.replace(",", ""))


def closed(form: str, **numbers: int) -> int:
    """A closed form as it is written, with numbers for its letters."""
    import sympy

    for written, meant in {"·": "*", "^": "**", "−": "-", "⌊": "floor(", "⌈": "ceiling(", "⌋": ")", "⌉": ")"}.items():
        form = form.replace(written, meant)
    form = re.sub(r"(?<=\d),(?=\d{3})", "", form)
    return int(sympy.sympify(form, locals={letter: sympy.Integer(n) for letter, n in numbers.items()}))


# show

LAB_TABLE_1 = [
    ["layer", "activations", "weights"],
    ["input", "224·224·3 = 150,528", "0"],
    ["conv1_1", "224·224·64 = 3,211,264", "(3·3·3)·64 = 1,728"],
    ["conv1_2", "224·224·64 = 3,211,264", "(3·3·64)·64 = 36,864"],
    ["pool1", "112·112·64 = 802,816", "0"],
    ["conv2_1", "112·112·128 = 1,605,632", "(3·3·64)·128 = 73,728"],
    ["conv2_2", "112·112·128 = 1,605,632", "(3·3·128)·128 = 147,456"],
    ["pool2", "56·56·128 = 401,408", "0"],
    ["conv3_1", "56·56·256 = 802,816", "(3·3·128)·256 = 294,912"],
    ["conv3_2", "56·56·256 = 802,816", "(3·3·256)·256 = 589,824"],
    ["conv3_3", "56·56·256 = 802,816", "(3·3·256)·256 = 589,824"],
    ["conv3_4", "56·56·256 = 802,816", "(3·3·256)·256 = 589,824"],
    ["pool3", "28·28·256 = 200,704", "0"],
    ["conv4_1", "28·28·512 = 401,408", "(3·3·256)·512 = 1,179,648"],
    ["conv4_2", "28·28·512 = 401,408", "(3·3·512)·512 = 2,359,296"],
    ["conv4_3", "28·28·512 = 401,408", "(3·3·512)·512 = 2,359,296"],
    ["conv4_4", "28·28·512 = 401,408", "(3·3·512)·512 = 2,359,296"],
    ["pool4", "14·14·512 = 100,352", "0"],
    ["conv5_1", "14·14·512 = 100,352", "(3·3·512)·512 = 2,359,296"],
    ["conv5_2", "14·14·512 = 100,352", "(3·3·512)·512 = 2,359,296"],
    ["conv5_3", "14·14·512 = 100,352", "(3·3·512)·512 = 2,359,296"],
    ["conv5_4", "14·14·512 = 100,352", "(3·3·512)·512 = 2,359,296"],
    ["pool5", "7·7·512 = 25,088", "0"],
    ["fc6", "4,096", "(7·7·512)·4096 = 102,760,448"],
    ["fc7", "4,096", "4096·4096 = 16,777,216"],
    ["fc8", "1,000", "4096·1000 = 4,096,000"],
    ["total", "16,542,184", "143,652,544"],
]


def test_the_labs_table_1(shell: Shell) -> None:
    options = ("--set", "bias=false", "--columns", "layer,activations,weights", "--working", "--format", "markdown")
    text = shell.ok("show", "vgg19", *options)
    assert markdown_rows(text) == LAB_TABLE_1
    # and its arithmetic holds: each product is its number, each column its total
    for column in (1, 2):
        numbers = []
        for row in LAB_TABLE_1[1:-1]:
            expression, _, result = row[column].partition(" = ")
            numbers.append(number(result or expression))
            if result:
                assert eval(expression.replace("·", "*")) == numbers[-1]
        assert sum(numbers) == number(LAB_TABLE_1[-1][column])


def test_default_columns_and_the_rows_left_out(shell: Shell) -> None:
    text = shell.ok("show", "alexnet")
    assert text.startswith("alexnet on 1x3x227x227\n")
    rows = terminal_rows(text)
    assert rows[0] == ["layer", "kind", "output", "activations", "params", "MACs"]
    # ReLU in place, flatten, dropout: 16 layers of 25 are left
    assert rows[-1] == ["total", "", "", "1,413,347", "60,965,224", "724,406,816"]
    assert "Left out, 0 in every column: 7 ReLU, 1 Flatten, 2 Dropout (--all shows them)." in text
    every = shell.ok("show", "alexnet", "--all")
    assert "Left out" not in every
    assert len(terminal_rows(every)) == len(rows) + 10


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize(
    "arguments",
    [
        ("alexnet",),
        ("resnet18", "--set", "shortcut=A"),
        ("vgg16", "--depth", "1"),
        ("resnet34", "--depth", "2", "--batch", "7"),
        ("inception-reduced", "--layers", "conv"),
        ("resnet50", "--convention", "flop", "--all"),
    ],
)
def test_every_format_reads_back_and_its_columns_sum_to_their_totals(
    shell: Shell, format: str, arguments: tuple[str, ...]
) -> None:
    names = ["layer", "activations", "weights", "biases", "params", "buffers", "macs", "cost", "bias_add", "cmp"]
    text = shell.ok("show", *arguments, "--columns", ",".join(names), "--format", format)
    header, *rows, total = READERS[format](text)
    assert len(header) == len(names)
    assert total[0] == "total"
    sums = [sum(number(row[i]) for row in rows) for i in range(1, len(names))]
    assert [number(cell) for cell in total[1:]] == sums
    factor = 2 if "flop" in arguments else 1
    assert number(total[7]) == factor * number(total[6]) > 0


def test_formats_hold_the_same_numbers(shell: Shell) -> None:
    read = {format: rows(shell.ok("show", "vgg11", "--all", "--format", format)) for format, rows in READERS.items()}

    def numbers(rows: list[list[str]]) -> list[list[int]]:
        return [[number(cell) for cell in row[3:]] for row in rows[1:]]

    assert numbers(read["table"]) == numbers(read["markdown"]) == numbers(read["csv"]) == numbers(read["html"])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_as_it_is(shell: Shell, tmp_path: Path) -> None:
    documents = {
        "show": ("show", "alexnet", "--working", "--columns", "layer,output,weights,macs"),
        "explain": ("explain", "inception-reduced"),
        "compare": ("compare", "inception-naive", "inception-reduced"),
        "list": ("list",),
        "several": ("time", "mlp", "deep-narrow", "--layers", "--seconds", "0.01", "--device", "cpu"),
        "symbolic": ("show", "inception-naive", "--input", "256xHxW", "--batch", "N"),
    }
    for name, arguments in documents.items():
        shell.ok(*arguments, "--format", "latex", "--output", str(tmp_path / f"{name}.tex"))
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert run.returncode == 0, run.stdout[-2000:]


def test_layers_keeps_rows_and_their_totals(shell: Shell) -> None:
    text = shell.ok("show", "vgg19", "--layers", "^fc", "--columns", "layer,weights,biases")
    # 7·7·512·4096, 4096·4096, 4096·1000
    assert terminal_rows(text)[1:] == [
        ["fc6", "102,760,448", "4,096"],
        ["fc7", "16,777,216", "4,096"],
        ["fc8", "4,096,000", "1,000"],
        ["total", "123,633,664", "9,192"],
    ]
    assert "3 of 45 layers; the total is theirs." in text
    data = json.loads(shell.ok("show", "vgg19", "--layers", "^fc", "--format", "json"))
    assert [row["name"] for row in data["layers"]] == ["fc6", "fc7", "fc8"]
    assert (data["total"]["weights"], data["total"]["cost"]) == (123_633_664, 123_633_664)


@pytest.mark.parametrize("depth", ["1", "2", "3"])
def test_depth_folds_rows_and_keeps_the_sums(shell: Shell, depth: str) -> None:
    names = "layer,kind,activations,params,macs"
    folded = terminal_rows(shell.ok("show", "resnet34", "--depth", depth, "--columns", names))
    flat = terminal_rows(shell.ok("show", "resnet34", "--columns", names))
    assert folded[-1] == flat[-1]
    stages = {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3}
    blocks = {"1": [*stages], "2": [f"{stage}.{j}" for stage, n in stages.items() for j in range(n)], "3": []}
    assert [row[0] for row in folded if row[1].endswith("layers")] == blocks[depth]
    for block in blocks[depth]:
        inside = [row for row in flat if row[0].startswith(f"{block}.")]
        line = next(row for row in folded if row[0] == block)
        assert [number(cell) for cell in line[2:]] == [sum(number(row[i]) for row in inside) for i in (2, 3, 4)]


def test_conventions(shell: Shell) -> None:
    rows = {
        name: terminal_rows(shell.ok("show", "vgg19", "--convention", name, "--columns", "layer,cost"))
        for name in CONVENTIONS
    }
    totals = {name: number(found[-1][1]) for name, found in rows.items()}
    assert totals["mac"] == totals["torch"] == totals["fvcore"] == 19_632_062_464
    assert totals["flop"] == 2 * 19_632_062_464
    assert rows["flop"][0][1] == "FLOPs"
    # torchinfo adds one for each bias and output element: Σ of the convolutions' maps 14,852,096... and 9,192
    biased = 2 * 224**2 * 64 + 2 * 112**2 * 128 + 4 * 56**2 * 256 + 4 * 28**2 * 512 + 4 * 14**2 * 512 + 9192
    assert totals["torchinfo"] == 19_632_062_464 + biased


def test_share_is_of_the_chosen_convention(shell: Shell) -> None:
    text = shell.ok("show", "inception-naive", "--columns", "layer,share", "--layers", "^conv")
    # 128, 9·192 and 25·96 parts of 128 + 1,728 + 2,400 = 4,256
    assert [row[1] for row in terminal_rows(text)[1:4]] == ["3.0%", "40.6%", "56.4%"]


def test_a_batch_multiplies_activations_and_macs_alone(shell: Shell) -> None:
    one = json.loads(shell.ok("show", "alexnet", "--format", "json"))["total"]
    eight = json.loads(shell.ok("show", "alexnet", "--batch", "8", "--format", "json"))["total"]
    assert eight["params"] == one["params"]
    assert (eight["macs"], eight["activations"]) == (8 * one["macs"], 8 * one["activations"])


def test_input_may_be_written_in_other_ways(shell: Shell) -> None:
    wanted = shell.ok("show", "vgg11", "--input", "3x64x32")
    for written in ("3×64×32", "3,64,32", " 3 x 64 x 32 "):
        assert shell.ok("show", "vgg11", "--input", written) == wanted
    assert wanted.startswith("vgg11 on 1x3x64x32\n")


# JSON


def test_json_contract(shell: Shell) -> None:
    data = json.loads(shell.ok("show", "vgg19", "--format", "json"))
    assert list(data) == ["schema", "network", "input", "convention", "layers", "total", "uncounted"]
    assert (data["schema"], data["network"], data["convention"]) == ("archcalc.report/1", "vgg19", "mac")
    assert data["input"] == [1, 3, 224, 224]
    assert data["uncounted"] == []
    row = data["layers"][1]
    working = row.pop("working")
    assert row == {
        "name": "conv1_1",
        "kind": "Conv2d",
        "inputs": ["input"],
        "output": [1, 64, 224, 224],
        "activations": 3211264,
        "weights": 1728,
        "biases": 64,
        "params": 1792,
        "buffers": 0,
        "frozen": 0,
        "macs": 86704128,
        "ledger": {"mac": 86704128, "bias_add": 3211264},
        "receptive_field": [3, 3],
        "jump": [1, 1],
        "counted": True,
        "used": True,
        "shared": {},
        "cost": 86704128,
    }
    assert working["weights"] == "(3·3·3)·64 = 1,728"
    assert working["macs"] == "224·224·64·(3·3·3) = 86,704,128"
    assert set(row) | {"working"} == set(data["layers"][0])
    for quantity in ("activations", "weights", "biases", "params", "buffers", "macs", "cost"):
        assert data["total"][quantity] == sum(layer[quantity] for layer in data["layers"]), quantity
    for operation, amount in data["total"]["ledger"].items():
        assert amount == sum(layer["ledger"].get(operation, 0) for layer in data["layers"]), operation
    # fc8 is a vector: no jump; a kernel of all that came before sees a field
    assert data["layers"][-1]["jump"] is None
    assert len(data["layers"]) == 46


@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_json_of_every_network_sums_to_its_totals(shell: Shell, name: str) -> None:
    data = json.loads(shell.ok("show", name, "--format", "json", "--convention", "flop"))
    assert data["total"]["cost"] == 2 * data["total"]["macs"] == sum(layer["cost"] for layer in data["layers"])
    for quantity in ("activations", "weights", "biases", "params", "buffers", "macs"):
        assert data["total"][quantity] == sum(layer[quantity] for layer in data["layers"])
    names = [layer["name"] for layer in data["layers"]]
    assert all(set(layer["inputs"]) <= set(names[:i]) for i, layer in enumerate(data["layers"]))


def test_closed_forms_evaluate_to_the_integer_report(shell: Shell) -> None:
    pytest.importorskip("sympy")
    for name, image in (("alexnet", (195, 227)), ("inception-reduced", (17, 5)), ("resnet18", (65, 224))):
        channels = 256 if "inception" in name else 3
        symbolic = json.loads(shell.ok("show", name, "--input", f"{channels}xHxW", "--batch", "N", "--format", "json"))
        size = "x".join(map(str, (channels, *image)))
        whole = json.loads(shell.ok("show", name, "--input", size, "--batch", "3", "--format", "json"))
        numbers = dict(zip("NHW", (3, *image), strict=True))

        def value(form: Any, numbers: dict[str, int] = numbers) -> int:
            return closed(str(form), **numbers)

        for layer, expected in zip(symbolic["layers"], whole["layers"], strict=True):
            for quantity in ("activations", "weights", "biases", "params", "buffers", "macs"):
                assert value(layer[quantity]) == expected[quantity], (name, layer["name"], quantity)
            assert [value(extent) for extent in layer["output"]] == expected["output"]
        for quantity in ("activations", "weights", "biases", "params", "buffers", "macs"):
            assert value(symbolic["total"][quantity]) == whole["total"][quantity], (name, quantity)
        for operation, amount in symbolic["total"]["ledger"].items():
            assert value(amount) == whole["total"]["ledger"][operation]


def test_a_closed_form_that_may_be_0_is_not_left_out(shell: Shell) -> None:
    pytest.importorskip("sympy")
    # ⌊(H − 11)/8⌋ rows of conv2: 0 for some H, which is no reason to hide it
    rows = terminal_rows(shell.ok("show", "alexnet", "--input", "3xHxW", "--columns", "layer,macs"))
    assert [row[0] for row in rows[1:-1]] == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    explained = shell.ok("explain", "alexnet", "--input", "3xHxW")
    sums = re.search("^  MACs +(.*) = (.*)$", explained[explained.index("\ntotal\n") :], re.MULTILINE)
    assert sums
    assert {closed(side, H=227, W=227) for side in sums.groups()} == {724_406_816}


# list, explain, compare


def test_list(shell: Shell) -> None:
    data = json.loads(shell.ok("list", "--format", "json"))
    assert list(data) == ["networks"]
    found = {network["name"]: network for network in data["networks"]}
    assert set(found) >= {
        *("alexnet", "alexnet-torchvision", "vgg11", "vgg13", "vgg16", "vgg16c", "vgg19", "inception-naive"),
        *("inception-reduced", "resnet18", "resnet34", "plain18", "plain34", "resnet50", "resnet101", "resnet152"),
    }
    assert found["vgg19"]["params"] == 143_667_240
    assert found["vgg19"]["macs"] == 19_632_062_464
    assert found["vgg19"]["input"] == [1, 3, 224, 224]
    assert found["resnet50"]["choices"]["stride_on"] == "3x3"
    for format, read in READERS.items():
        rows = read(shell.ok("list", "--format", format))
        assert [row[0] for row in rows[1:]] == list(found)
    lines = shell.ok("list").splitlines()
    assert all(len(line) <= 120 for line in lines[: len(found) + 3])
    assert [word for word in lines[1].split() if word != "|"] == [
        "network",
        "family",
        "paper",
        "year",
        "input",
        "params",
        "MACs",
    ]
    (vgg19,) = [line for line in lines if line.startswith("vgg19 ")]
    assert [cell.strip() for cell in vgg19.split("|")] == [
        *("vgg19", "VGG", "Simonyan & Zisserman", "2014", "3x224x224", "143,667,240", "19,632,062,464")
    ]


def test_what_list_offers_can_be_asked_for(shell: Shell) -> None:
    listed = shell.ok("list")
    for name, _, _, _, size, params, macs in csv_rows(shell.ok("list", "--format", "csv"))[1:]:
        note = next(line for line in listed.splitlines() if name in line.partition(":")[0].split(", "))
        settings = [word for choice in note.partition(": ")[2].split(", ") for word in ("--set", choice)]
        text = shell.ok("show", name, *settings, "--input", size, "--format", "csv", "--columns", "layer,params,macs")
        assert csv_rows(text)[-1] == ["total", params, macs]


def test_explain_alexnet(shell: Shell) -> None:
    text = shell.ok("explain", "alexnet")
    for line in (
        "alexnet on 1×3×227×227",
        "conv1 (Conv2d): 1×3×227×227 → 1×96×55×55",
        "  height           ⌊(227 − 11)/4⌋ + 1 = 55    [⌊(H + 2·padding − R)/stride⌋ + 1]",
        "  weights          (11·11·3)·96 = 34,848    [(R·S·C/G)·K]",
        "  MACs             55·55·96·(11·11·3) = 105,415,200    [N·P·Q·K·(R·S·C/G)]",
        "  params           (5·5·96/2)·256 + 256 = 307,456    [(R·S·C/G)·K + K]",
        "  weights         (6·6·256)·4096 = 37,748,736    [(H·W·C)·K]",
        "total",
        "  params       34,944 + 307,456 + 885,120 + 663,936 + 442,624 + 37,752,832 + 16,781,312 + 4,097,000"
        " = 60,965,224",
    ):
        assert line in text.splitlines()
    # every layer that computes has its section
    computing = [row.name for row in analyze(zoo.alexnet()) if row.ledger or row.activations]
    assert [line.split(" (")[0] for line in text.splitlines() if re.match(r"\w+ \(\w+\): ", line)] == computing


def test_everything_explained_is_true(shell: Shell) -> None:
    """Each line `name expression = value` of the text, evaluated by Python."""
    for name in ("alexnet", "resnet50", "inception-reduced"):
        lines = re.findall(r"^  \S.*? {2,}(\S.*?) = ([\d,]+)(?: {4}\[|$)", shell.ok("explain", name), re.MULTILINE)
        assert len(lines) > 50
        for expression, value in lines:
            python = re.sub(r"⌊([^⌊⌋]*)/(\d+)⌋", r"((\1)//\2)", expression.replace(",", ""))
            python = python.replace("·", "*").replace("−", "-").replace("/", "//").replace("////", "//")
            assert eval(python) == number(value), expression


def test_explain_one_layer_in_every_format(shell: Shell) -> None:
    text = shell.ok("explain", "vgg19", "conv1_1")
    assert "conv1_2" not in text
    assert "total" not in text.splitlines()
    for format, read in READERS.items():
        rows = read(shell.ok("explain", "vgg19", "conv1_1", "--format", format, "--unicode"))
        assert rows[0] == ["layer", "quantity", "in numbers", "in letters"]
        written = {row[1]: row[2] for row in rows[1:]}
        wanted = "(3*3*3)*64 = 1,728" if format == "csv" else "(3·3·3)·64 = 1,728"
        assert written["weights"] == wanted
        assert {row[0] for row in rows[1:]} == {"conv1_1"}
    data = json.loads(shell.ok("explain", "vgg19", "conv1_1", "--format", "json"))
    assert data["schema"] == "archcalc.explain/1"
    assert data["input"] == [1, 3, 224, 224]
    [layer] = data["layers"]
    assert layer["name"] == "conv1_1"
    assert layer["working"]["weights"] == {
        "numbers": "(3·3·3)·64 = 1,728",
        "letters": "(R·S·C/G)·K",
        "latex": r"(3 \cdot 3 \cdot 3) \cdot 64 = 1{,}728",
    }


def test_explain_in_ascii(shell: Shell) -> None:
    text = shell.ok("explain", "alexnet", "pool1", "--ascii")
    assert text.isascii()
    assert "floor((55 - 3)/2) + 1 = 27" in text


def test_compare_the_inception_modules(shell: Shell) -> None:
    rows = {row[0]: row[1:] for row in terminal_rows(shell.ok("compare", "inception-naive", "inception-reduced"))}
    assert rows[""] == ["inception-naive", "inception-reduced", "ratio", "saving"]
    assert rows["output"][:2] == ["1x672x32x32", "1x480x32x32"]
    # 397,410,304 / 1,115,684,864 = 0.3562
    assert rows["MACs of Conv2d"] == ["1,115,684,864", "397,410,304", "0.356x", "64.4%"]
    data = json.loads(shell.ok("compare", "inception-naive", "inception-reduced", "--format", "json"))
    assert data["schema"] == "archcalc.compare/1"
    assert [network["MACs of Conv2d"] for network in data["networks"]] == [1_115_684_864, 397_410_304]


def test_compare_takes_choices_input_and_convention(shell: Shell) -> None:
    options = ("--set", "bias=false", "--input", "3x64x64", "--batch", "2", "--convention", "flop", "--format", "csv")
    rows = {row[0]: row for row in csv_rows(shell.ok("compare", "vgg11", "vgg16", "vgg19", *options))}
    assert rows[""][1:] == ["vgg11", "vgg16", "vgg19", "vgg16 ratio", "vgg16 saving", "vgg19 ratio", "vgg19 saving"]
    assert rows["input"][1:4] == ["2x3x64x64"] * 3
    assert rows["biases"][1:] == ["0", "0", "0", "", "", "", ""]
    reports = [analyze(zoo.find(name).build(bias=False), (2, 3, 64, 64)) for name in ("vgg11", "vgg16", "vgg19")]
    assert rows["FLOPs"][1:4] == [str(2 * report.total.macs) for report in reports]


def test_plain_and_residual_of_the_issue(shell: Shell) -> None:
    settings = ("--set", "conv_bias=true", "--set", "batch_norm=false", "--columns", "layer,params", "--format", "csv")
    plain = csv_rows(shell.ok("show", "plain34", *settings))[-1]
    residual = csv_rows(shell.ok("show", "resnet34", "--set", "shortcut=A", *settings))[-1]
    assert plain == residual


def test_a_choice_is_for_the_networks_that_have_it(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text("input: 3x224x224\nlayers:\n  - Conv2d(8, 3)\n")
    names = ("vgg19", "plain34", "resnet34+width=0.5", str(tmp_path / "net.yaml"), "resnet34")
    options = ("--set", "shortcut=A", "--set", "conv-bias=false", "--format", "json")
    data = json.loads(shell.ok("compare", *names, *options))
    projections = 28 * 28 * 64 * 128 + 14 * 14 * 128 * 256 + 7 * 7 * 256 * 512
    default = analyze(zoo.resnet34()).total.macs
    assert data["networks"][-1]["MACs"] == default - projections  # of option B
    assert data["networks"][1]["MACs"] == analyze(zoo.plain34()).total.macs


# Bad input

NEAR = r"unknown network 'vgg91'; did you mean 'vgg19' or 'vgg16'.*There are: .*alexnet, .*vgg19"
READ = "cannot read --input '.*': extents are positive whole numbers or letters joined by x, without the batch, such as"
REFUSED = [
    (("show", "vgg91"), NEAR),
    (("explain", "vgg91"), NEAR),
    (("compare", "vgg19", "vgg91"), NEAR),
    (("check", "vgg91"), NEAR),
    (("time", "vgg91"), NEAR),
    (("show", "VGG19"), "did you mean 'vgg19'"),
    (("show", ""), "unknown network ''; there are: .*alexnet"),
    (
        ("show", "vgg19", "--columns", "wieghts"),
        "unknown column 'wieghts'; did you mean 'weights'.*There are: layer, kind",
    ),
    (("show", "vgg19", "--columns", "layer,macs,layer"), "the column layer is asked for more than once"),
    (("show", "vgg19", "--columns", "MACs"), "did you mean 'macs'"),
    (("show", "vgg19", "--columns", ""), "no columns; choose from layer, kind"),
    (("show", "vgg19", "--columns", " , "), "no columns; choose from layer, kind"),
    (
        ("show", "vgg19", "--set", "biass=false"),
        "choice of vgg19 'biass'; did you mean 'bias'.*There are: bias, batch_norm",
    ),
    (("show", "vgg19", "--set", "bias=maybe"), "vgg19: bias is 'maybe'; it must be true or false"),
    (("show", "resnet34", "--set", "shortcut=D"), "resnet34: shortcut is 'D'; it must be A or B or C"),
    (("show", "vgg19", "--set", "bias"), "--set takes key=value, such as bias=false, not 'bias'"),
    (("show", "vgg19", "--set", "=1"), "--set takes key=value"),
    (("show", "vgg19", "--set", "classes=0"), "classes is 0; it must be a whole number of at least 1"),
    (("show", "vgg19", "--set", "classes=-3"), "classes is '-3'; it must be a whole number of at least 1"),
    (("compare", "alexnet", "vgg19", "--set", "tower=1"), "unknown choice of alexnet 'tower'; did you mean 'towers'"),
    *((("show", "vgg19", "--input", text), READ) for text in ("3xx224", "0x224x224", "3x0x0", "3x-1x224", "3x1.5x2")),
    *((("show", "vgg19", "--input", text), READ) for text in ("", "x", "3x224x224px", "3x1e3x5", "٣x4x5", "3x²x2")),
    (("show", "vgg19", "--input", f"3x1{'0' * 5000}x224"), READ),
    (
        ("show", "vgg19", "--input", "3x224"),
        "--input 3x224 has 2 extents; vgg19 takes 3, without the batch, such as 3x224x224",
    ),
    (("show", "vgg19", "--input", "1x3x224x224"), "has 4 extents; vgg19 takes 3, without the batch"),
    (("show", "vgg19", "--input", "abc"), "has 1 extents; vgg19 takes 3"),
    (
        ("show", "vgg19", "--input", "3x8x8"),
        r"pool4 \(MaxPool2d\) on an input of 1×512×1×1: a kernel that spans 2 .* 1$",
    ),
    *(
        (("show", "vgg19", "--batch", text), "cannot read --batch '.*': it must be")
        for text in ("0", "-1", "1.5", "", "N+1")
    ),
    (("show", "vgg19", "--layers", "("), r"--layers '\(' is not a regular expression: .* at position 0"),
    (("show", "vgg19", "--layers", "(", "--format", "json"), r"--layers '\(' is not a regular expression"),
    (
        ("show", "vgg19", "--layers", "zzz"),
        "no layer of vgg19 matches 'zzz'; see its layers with `archcalc show vgg19 --all`",
    ),
    (("show", "vgg19", "--depth", "0"), "--depth is 0; it must be at least 1"),
    (("show", "vgg19", "--depth", "-3"), "--depth is -3; it must be at least 1"),
    (
        ("show", "vgg19", "--convention", "flops"),
        "unknown convention 'flops'; did you mean 'flop'.*There are: mac, flop",
    ),
    (("show", "vgg19", "--convention", "x", "--format", "json"), "unknown convention 'x'; there are: mac, flop"),
    (("compare", "vgg19", "vgg16", "--convention", "x"), "unknown convention 'x'; there are: mac, flop"),
    (("explain", "vgg19", "conv9_9"), "unknown layer 'conv9_9'; did you mean 'conv5_4' or [^:]*\\?$"),
    (("explain", "vgg19", "conv9_9", "--format", "json"), "unknown layer 'conv9_9'"),
    (("compare", "vgg19"), "a comparison takes two networks or more"),
    (("compare", "vgg19", "--format", "json"), "a comparison takes two networks or more"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_bad_input_ends_with_one_message_and_status_2(shell: Shell, arguments: Sequence[str], message: str) -> None:
    said = shell.refused(*arguments)
    assert re.search(message, said), said
    assert len(said) < 900


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("foo",), "No such command 'foo'"),
        (("shwo", "vgg19"), "Did you mean 'show'"),
        (("show",), "Missing argument 'TARGET'"),
        (("show", "vgg19", "extra"), "unexpected extra argument"),
        (("show", "vgg19", "--depth", "x"), "'--depth': 'x' is not a valid int"),
        (("show", "vgg19", "--fromat", "json"), "--format"),
        (
            ("show", "vgg19", "--format", "pdf"),
            "'pdf' is not one of 'table', 'markdown', 'latex', 'csv', 'json', 'html'",
        ),
    ],
)
def test_bad_usage_ends_with_a_message_and_status_2(shell: Shell, arguments: Sequence[str], message: str) -> None:
    ran = shell(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_numbers_of_a_hundred_digits_are_only_large(shell: Shell) -> None:
    huge = "1" + "0" * 99
    options = ("--input", f"3x{huge}x{huge}", "--batch", huge, "--set", f"classes={huge}", "--format", "csv")
    total = csv_rows(shell.ok("show", "vgg19", *options, "--columns", "layer,activations,cost,share"))[-1]
    assert int(total[1]) > 10**297
    assert "vgg19" in shell.ok("compare", "vgg19", "vgg16", *options)


def test_nothing_of_ours_is_uncounted(shell: Shell) -> None:
    assert shell("show", "vgg19", "--strict").status == 0


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option(shell: Shell, command: str) -> None:
    text = shell.ok(command, "--help")
    assert text == shell.ok(command, "-h")
    assert text.isascii()
    assert all(len(line) <= 80 for line in text.splitlines())
    options = re.findall(r"^  (--?\w.*?)(?:  +(\S.*)|\n {20,}(\S.*))?$", text, re.MULTILINE)
    assert len(options) >= 4
    assert all(same or below for _, same, below in options), options


def test_help_lists_commands_columns_and_conventions(shell: Shell) -> None:
    overview = shell.ok("--help")
    listed = re.findall(r"^  ([a-z]+) ", overview, re.MULTILINE)
    assert listed[-len(COMMANDS) :] == [*COMMANDS]
    text = re.sub(r"\s+", " ", re.sub(r"-\n\s+", "-", shell.ok("show", "--help")))
    assert ", ".join(columns.names()) in text
    assert ", ".join(CONVENTIONS) in text


def test_version(shell: Shell) -> None:
    assert shell.ok("--version") == f"archcalc {__version__}\n"


def test_commands_are_all_there_after_one_was_run(shell: Shell) -> None:
    shell.refused("show", "vgg91")
    assert "compare" in shell.ok("--help")


def test_doctests() -> None:
    for module in (targets, names, explain):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed


# Files


@pytest.mark.parametrize("format", [*READERS, "latex", "json"])
def test_output_writes_what_it_would_print(shell: Shell, tmp_path: Path, format: str) -> None:
    printed = shell.ok("show", "alexnet", "--format", format)
    assert shell.ok("show", "alexnet", "--format", format, "--output", str(tmp_path / "out")) == ""
    assert (tmp_path / "out").read_text(encoding="utf-8") == printed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.md", "markdown"), ("a.tex", "latex"), ("a.CSV", "csv"), ("a.json", "json"), ("a.html", "html")],
)
@pytest.mark.parametrize("command", ["show", "explain"])
def test_a_file_is_written_as_its_name_ends(shell: Shell, tmp_path: Path, command: str, name: str, format: str) -> None:
    shell.ok(command, "lenet5", "--output", str(tmp_path / name))
    assert (tmp_path / name).read_text(encoding="utf-8") == shell.ok(command, "lenet5", "--format", format)
    shell.ok(command, "lenet5", "--output", str(tmp_path / name), "--format", "markdown")
    assert (tmp_path / name).read_text(encoding="utf-8") == shell.ok(command, "lenet5", "--format", "markdown")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_ordinary_permissions(shell: Shell, tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        shell.ok("list", "--output", str(tmp_path / "out"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode


def test_a_file_that_is_there_keeps_its_permissions_and_links_to_it_stay_links(shell: Shell, tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to("file")
    text = shell.ok("list")
    shell.ok("list", "--output", str(link))
    assert link.is_symlink()
    assert file.read_text() == text
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "vgg91"),
        ("show", "vgg19", "--columns", "nope"),
        ("show", "vgg19", "--input", "3x8x8"),
        ("explain", "vgg19", "nope"),
        ("compare", "vgg19"),
    ],
)
def test_a_failure_leaves_the_file_as_it_was(shell: Shell, tmp_path: Path, arguments: Sequence[str]) -> None:
    file = tmp_path / "out"
    file.write_text("precious")
    shell.refused(*arguments, "--output", str(file))
    assert file.read_text() == "precious"
    shell.refused(*arguments, "--output", str(tmp_path / "new"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_while_writing_leaves_nothing_half_written(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "out"
    file.write_text("precious")

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    assert shell.refused("list", "--output", str(file)) == f"cannot write {file}: No space left on device"
    assert file.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_written_to(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    for output, reason in (
        (str(tmp_path), "Is a directory"),
        (".", "Is a directory"),
        ("", "Is a directory"),
        ("nowhere/out", "No such file or directory"),
        ("file/out", "Not a directory"),
        ("x" * 300, "File name too long"),
    ):
        assert shell.refused("list", "--output", output).endswith(f": {reason}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_directory_or_file(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o400)
    assert shell.refused("list", "--output", str(file)).endswith("Permission denied")
    tmp_path.chmod(0o500)
    assert shell.refused("list", "--output", str(tmp_path / "new")).endswith("Permission denied")
    tmp_path.chmod(0o700)


def test_a_file_that_may_not_be_written_is_not_replaced(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for anyone but root
    assert shell.refused("list", "--output", str(tmp_path / "file")).endswith("Permission denied")
    assert (tmp_path / "file").read_text() == "old"


def test_a_device_or_pipe_is_written_to_and_not_replaced(shell: Shell, tmp_path: Path) -> None:
    text = shell.ok("list")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    shell.ok("list", "--output", str(tmp_path / "pipe"))
    assert os.read(reader, 100_000).decode() == text
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    shell.ok("list", "--output", os.devnull)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


# Real processes: pipes, encodings, terminals


def test_as_a_process() -> None:
    ran = process("show", "vgg19", "--format", "json")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert json.loads(ran.stdout)["total"]["params"] == 143_667_240
    ran = process("show", "vgg91")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert ran.stderr.startswith(b"archcalc: unknown network 'vgg91'; did you mean 'vgg19'")


@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_that_stops_early_is_no_error(lines: int) -> None:
    command = [sys.executable, "-m", "archcalc", "show", "resnet152", "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout
        assert run.stderr
        for _ in range(lines):
            run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == b""
        assert run.wait() == 0


def test_a_full_or_closed_standard_output_is_one_message() -> None:
    for redirection, reason in ((">/dev/full", "No space left on device"), (">&-", "standard output is closed")):
        if redirection == ">/dev/full" and not Path("/dev/full").exists():
            continue
        command = f"{sys.executable} -m archcalc list {redirection}"
        run = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        assert run.returncode == 2
        assert run.stderr.startswith("archcalc: ")
        assert reason in run.stderr
        assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_what_the_encoding_lacks_is_transliterated(environment: dict[str, str]) -> None:
    ran = process("explain", "alexnet", "pool1", **environment)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"floor((55 - 3)/2) + 1 = 27" in ran.stdout
    assert b"1x96x55x55 -> 1x96x27x27" in ran.stdout
    ran = process("show", "alexnet", "--format", "json", "--layers", "conv1", **environment)
    [conv1] = json.loads(ran.stdout)["layers"]
    assert conv1["working"]["weights"] == "(11·11·3)·96 = 34,848"
    ran = process("show", "vggé", **environment)
    assert ran.returncode == 2
    assert b"unknown network" in ran.stderr
    assert b"Traceback" not in ran.stderr


def on_terminal(columns: int, *arguments: str, **environment: str) -> str:
    """What the command prints on a terminal this wide, escapes and all."""
    import fcntl
    import struct
    import termios

    main, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    run = subprocess.Popen(
        [sys.executable, "-m", "archcalc", *arguments],
        stdin=end,
        stdout=end,
        stderr=end,
        env={**kept, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment},
    )
    os.close(end)
    read = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # how a terminal whose other end is closed says so
            break
        if not chunk:
            break
        read += chunk
    os.close(main)
    assert run.wait() == 0
    return read.decode().replace("\r\n", "\n")


def test_on_a_terminal_the_table_is_drawn_in_unicode_and_bold() -> None:
    text = on_terminal(120, "show", "alexnet")
    assert "\x1b[1m" in text
    assert "│" in text
    assert "1×96×55×55" in text
    plain = on_terminal(120, "show", "alexnet", NO_COLOR="1")
    assert "\x1b" not in plain
    assert plain == re.sub(r"\x1b\[[\d;]*m", "", text)
    assert on_terminal(120, "show", "alexnet", TERM="dumb") == plain
    ascii = on_terminal(120, "show", "alexnet", "--ascii")
    assert ascii.isascii()
    assert "\x1b" not in ascii


def test_a_table_folds_to_the_terminal() -> None:
    arguments = ("show", "alexnet", "--columns", "layer,weights,macs", "--working")
    for width in (60, 80, 120):
        text = on_terminal(width, *arguments, NO_COLOR="1")
        assert all(len(line) <= width for line in text.splitlines())
        rows = terminal_rows(text)
        assert rows[-1] == ["total", "60,954,656", "724,406,816"]
        together = re.sub(r"\s+", " ", " ".join(row[2] for row in rows))
        assert "55·55·96·(11·11·3) = 105,415,200" in together


def test_a_terminal_of_no_known_width() -> None:
    assert "724,406,816" in on_terminal(0, "show", "alexnet")


def test_a_whole_process_takes_little_time() -> None:
    """CPU time of Python's own start included: this catches an import gone wild; benchmarks measure it."""
    before = os.times()
    assert process("show", "vgg19").returncode == 0
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1
