"""Networks side by side."""

from __future__ import annotations

import json

import pytest

from archcalc import Builder, Network, Report, analyze, zoo
from archcalc.compare import compare, compare_layers, comparison_record
from archcalc.errors import InputError, UnknownNameError
from archcalc.layers import Conv2d, Flatten, Layer, Linear, ReLU
from archcalc.table import Cell
from tests.test_columns import _Mystery


def net(name: str, *layers: Layer) -> Report:
    return analyze(Network.sequential(name, (1, 4, 8, 8), layers))


def rows(*reports: Report, convention: str = "mac") -> dict[Cell, tuple[Cell, ...]]:
    return {row[0]: row[1:] for row in compare(reports, convention).rows}


def test_two_networks() -> None:
    # 8·8·8·(4·9) and 8·8·2·4: 18,432 and 512 MACs; 288 + 8 and 8 + 2 parameters
    table = compare([net("wide", Conv2d(8, 3, padding=1)), net("narrow", Conv2d(2, 1), ReLU(inplace=True))])
    assert table.title == "wide and narrow; ratio and saving against wide"
    assert [column.header for column in table.columns] == ["", "wide", "narrow", "ratio", "saving"]
    assert table.rows == (
        ("input", "1×4×8×8", "1×4×8×8", None, None),
        ("output", "1×8×8×8", "1×2×8×8", None, None),
        ("layers", 1, 2, None, None),
        ("activations", 256 + 512, 256 + 128, "0.500×", "50.0%"),
        ("weights", 288, 8, "0.0278×", "97.2%"),
        ("biases", 8, 2, "0.250×", "75.0%"),
        ("params", 296, 10, "0.0338×", "96.6%"),
        ("MACs of Conv2d", 18_432, 512, "0.0278×", "97.2%"),
        ("MACs", 18_432, 512, "0.0278×", "97.2%"),
    )


def test_each_further_network_has_its_own_ratio_and_saving() -> None:
    table = compare([net("a", Conv2d(1, 1)), net("b", Conv2d(2, 1)), net("c", Conv2d(4, 1))])
    assert table.title == "a, b and c; ratio and saving against a"
    assert [column.header for column in table.columns][4:] == ["b ratio", "b saving", "c ratio", "c saving"]
    assert table.rows[-1] == ("MACs", 256, 512, 1024, "2.00×", None, "4.00×", None)
    assert all(len(row) == 8 for row in table.rows)


def test_rewritten_networks_are_named_by_their_rewrites() -> None:
    reports = [net("a", Conv2d(2, 1)), net("a+width=2", Conv2d(4, 1)), net("ab", Conv2d(1, 1))]
    headers = [column.header for column in compare(reports).columns]
    assert headers == ["", "a", "a+width=2", "ab", "+width=2 ratio", "+width=2 saving", "ab ratio", "ab saving"]


def test_what_grows_saves_nothing() -> None:
    # 4·2·1 and 4·70·1 weights: 35 times
    found = rows(net("small", Conv2d(2, 1)), net("large", Conv2d(70, 1)))
    assert found["weights"][2:] == ("35.0×", None)
    assert rows(net("a", Conv2d(2, 1)), net("b", Conv2d(2, 1)))["weights"][2:] == ("1.00×", "0.0%")


def test_nothing_is_said_of_a_ratio_to_0() -> None:
    found = rows(net("without", Conv2d(2, 1, bias=False)), net("with", Conv2d(2, 1)))
    assert found["biases"] == (0, 2, None, None)
    found = rows(net("with", Conv2d(2, 1)), net("without", Conv2d(2, 1, bias=False)))
    assert found["biases"] == (2, 0, "0×", "100.0%")


def test_kinds_that_only_one_network_has() -> None:
    found = rows(net("conv", Conv2d(2, 1)), net("linear", Flatten(), Linear(2)))
    # 8·8·2·4, and (8·8·4)·2
    assert found["MACs of Conv2d"][:2] == (512, 0)
    assert found["MACs of Linear"][:2] == (0, 512)
    assert "MACs of ReLU" not in found


def test_conventions() -> None:
    reports = (analyze(zoo.resnet18()), analyze(zoo.plain18()))
    flop = rows(*reports, convention="flop")
    assert flop["FLOPs"][:2] == tuple(2 * report.total.macs for report in reports)
    fvcore = rows(*reports, convention="fvcore")
    assert "flops (fvcore) of BatchNorm2d" in fvcore
    costs = [amounts[:2] for name, amounts in fvcore.items() if str(name).startswith("flops (fvcore) of")]
    assert tuple(map(sum, zip(*costs, strict=True))) == fvcore["flops (fvcore)"][:2]
    with pytest.raises(UnknownNameError, match="unknown convention 'mops'; there are: mac, flop"):
        compare(reports, "mops")


def test_the_kinds_sum_to_the_whole() -> None:
    found = rows(*(analyze(entry.build()) for entry in zoo.ENTRIES.values()))
    n = len(zoo.ENTRIES)
    kinds = [amounts[:n] for name, amounts in found.items() if str(name).startswith("MACs of ")]
    assert tuple(map(sum, zip(*kinds, strict=True))) == found["MACs"][:n]


@pytest.mark.parametrize("count", [0, 1])
def test_one_network_is_no_comparison(count: int) -> None:
    reports = [net("a", ReLU())] * count
    for make in (compare, comparison_record):
        with pytest.raises(InputError, match="a comparison takes two networks or more"):
            make(reports)


def test_uncounted_operations_are_said_to_be() -> None:
    table = compare([net("a", Conv2d(1, 1)), net("b", Conv2d(1, 1), _Mystery())])
    assert table.notes == ("Uncounted in b, whose numbers are lower bounds: _mystery1.",)
    record = comparison_record([net("a", Conv2d(1, 1)), net("b", Conv2d(1, 1), _Mystery())])
    assert [one["uncounted"] for one in record["networks"]] == [[], ["_mystery1"]]


def test_closed_forms_side_by_side() -> None:
    pytest.importorskip("sympy")
    reports = [analyze(build(), ("N", 256, "H", "W")) for build in (zoo.inception_naive, zoo.inception_reduced)]
    found = {row[0]: row for row in compare(reports).rows}
    assert [str(form) for form in found["MACs"][1:3]] == ["1089536*H*N*W", "388096*H*N*W"]
    assert found["params"][3:] == ("0.357×", "64.3%")
    # 388,096/1,089,536 = 0.35620...: the letters cancel
    assert found["MACs"][3:] == ("0.356×", "64.4%")
    unlike = [analyze(zoo.inception_naive(), ("N", 256, "H", "W")), analyze(zoo.inception_naive(), ("N", 256, 9, 9))]
    assert {row[0]: row for row in compare(unlike).rows}["MACs"][3:] == (None, None)
    assert comparison_record(reports)["networks"][0]["MACs"] == "1089536·N·H·W"


def test_as_data() -> None:
    record = comparison_record([analyze(zoo.vgg16()), analyze(zoo.vgg19())], "flop")
    assert json.loads(json.dumps(record)) == record
    assert (record["schema"], record["convention"]) == ("archcalc.compare/1", "flop")
    first, second = record["networks"]
    assert (first["network"], first["input"], first["output"]) == ("vgg16", [1, 3, 224, 224], [1, 1000])
    assert first["params"] == 138_357_544
    assert round(second["FLOPs"] / first["FLOPs"], 2) == 1.27


def test_layer_by_layer() -> None:
    before = net("before", Conv2d(8, 3, padding=1), ReLU(), Conv2d(2, 1))
    builder = Builder("after", (1, 4, 8, 8))
    with builder.block("conv2d1"):
        builder.add(Conv2d(4, 3, padding=1, groups=4), "depthwise")
        builder.add(Conv2d(8, 1), "pointwise")
    builder.add(Conv2d(2, 1), "conv2d2")
    builder.add(Conv2d(1, 1), "more")
    after = analyze(builder.network())
    # 8·8·8·(4·9) = 18,432; 8·8·4·9 + 8·8·8·4 = 2,304 + 2,048 = 4,352; 8·8·1·2 = 128; 8·8·2·8 = 1,024 in both
    table = compare_layers([before, after])
    assert [column.header for column in table.columns] == ["MACs of layer", "before", "after", "ratio", "saving"]
    assert table.rows == (
        ("conv2d1", 18_432, 4_352, "0.236×", "76.4%"),
        ("other layers", 0, 128, None, None),
    )
    assert table.total == ("total", 19_456, 5_504, "0.283×", "71.7%")
    assert table.notes == ("Left out, the same in all: 2 layers; the total has them.",)
    record = comparison_record([before, after], by_layer=True)
    assert record["by_layer"] == {
        "conv2d1": [18_432, 4_352],
        "relu1": [0, 0],
        "conv2d2": [1_024, 1_024],
        "other layers": [0, 128],
    }
    assert "by_layer" not in comparison_record([before, after])


def test_a_report_compares_itself() -> None:
    reports = [net("a", Conv2d(1, 1)), net("b", Conv2d(2, 1)), net("c", Conv2d(4, 1))]
    first, *others = reports
    assert first.compare(*others, convention="flop") == compare(reports, "flop")
    assert first.compare(*others, layers=True) == compare_layers(reports)
    with pytest.raises(InputError, match="two networks or more"):
        first.compare()
