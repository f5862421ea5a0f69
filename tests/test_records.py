"""Reports as plain data: the JSON contract holds for ints, closed forms and sweeps, and for uncounted operations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archcalc import Network, analyze, zoo
from archcalc.columns import COUNTS
from archcalc.errors import InputError, UnknownNameError
from archcalc.layers import Conv2d, Flatten, Linear
from archcalc.records import explanation_record, plain, report_record
from tests.test_columns import _Mystery

ROW_FIELDS: dict[str, Any] = {
    "name": str,
    "kind": str,
    "inputs": list,
    "output": list,
    "activations": int,
    "weights": int,
    "biases": int,
    "params": int,
    "buffers": int,
    "macs": int,
    "ledger": dict,
    "receptive_field": (list, type(None)),
    "jump": (list, type(None)),
    "counted": bool,
    "working": dict,
}
TOTAL_FIELDS = ("activations", "weights", "biases", "params", "buffers", "macs", "ledger")


@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_the_contract_holds_for_every_network(name: str) -> None:
    record = analyze(zoo.find(name).build()).to_dict()
    assert json.loads(json.dumps(record)) == record
    assert record["schema"] == "archcalc.report/1"
    assert record["network"] == name
    assert record["convention"] == "mac"
    assert record["uncounted"] == []
    assert record["input"] == record["layers"][0]["output"]
    for row in record["layers"]:
        for field, kind in ROW_FIELDS.items():
            assert isinstance(row[field], kind), (row["name"], field)
        assert row["params"] == row["weights"] + row["biases"]
        assert row["macs"] == row["ledger"].get("mac", 0) == row["cost"]
        for quantity in COUNTS:
            # every number has its working; what is 0 has nothing to explain
            working = row["working"].get(quantity)
            assert (working is None) == (row[quantity] == 0), (row["name"], quantity)
            assert working is None or int(working.rpartition(" = ")[2].replace(",", "")) == row[quantity]
    for field in TOTAL_FIELDS[:-1]:
        assert record["total"][field] == sum(row[field] for row in record["layers"])
    operations = {operation for row in record["layers"] for operation in row["ledger"]}
    assert record["total"]["ledger"] == {
        operation: sum(row["ledger"].get(operation, 0) for row in record["layers"]) for operation in operations
    }


def test_some_layers_in_full() -> None:
    rows = {row["name"]: row for row in analyze(zoo.alexnet()).to_dict()["layers"]}
    conv2 = rows["conv2"]
    # 27·27·256 outputs; (5·5·48)·256 weights; the field grows from 19 to 19 + 4·8
    assert conv2["inputs"] == ["pool1"]
    assert conv2["output"] == [1, 256, 27, 27]
    assert conv2["ledger"] == {"mac": 27 * 27 * 256 * 5 * 5 * 48, "bias_add": 27 * 27 * 256}
    assert (conv2["receptive_field"], conv2["jump"]) == ([51, 51], [8, 8])
    assert conv2["working"]["receptive_field"] == "19 + (5 − 1)·8 = 51"
    assert conv2["working"]["height"] == "⌊(27 + 2·2 − 5)/1⌋ + 1 = 27"
    assert rows["fc8"]["jump"] is None
    assert rows["drop7"]["ledger"] == {}
    assert rows["drop7"]["working"] == {}


def test_a_sum_over_branches_names_all_inputs() -> None:
    rows = {row["name"]: row for row in analyze(zoo.resnet18()).to_dict()["layers"]}
    assert rows["layer2.0.add"]["inputs"] == ["layer2.0.bn2", "layer2.0.downsample.1"]
    concat = analyze(zoo.inception_naive()).to_dict()["layers"][-1]
    assert concat["inputs"] == ["relu_conv1x1", "relu_conv3x3", "relu_conv5x5", "pool"]


def test_the_cost_is_the_conventions() -> None:
    report = analyze(zoo.vgg11())
    record = report.to_dict(convention="flop")
    assert record["convention"] == "flop"
    assert record["total"]["cost"] == 2 * record["total"]["macs"] == sum(row["cost"] for row in record["layers"])
    with pytest.raises(UnknownNameError, match="unknown convention 'flip'; did you mean 'flop'"):
        report.to_dict(convention="flip")


def test_layers_filter_rows_and_totals() -> None:
    record = report_record(analyze(zoo.vgg11()), layers="fc[67]")
    assert [row["name"] for row in record["layers"]] == ["fc6", "fc7"]
    assert record["total"]["weights"] == record["total"]["cost"] == 7 * 7 * 512 * 4096 + 4096 * 4096
    with pytest.raises(InputError, match="no layer of vgg11 matches 'fc9'"):
        report_record(analyze(zoo.vgg11()), layers="fc9")


def test_uncounted_operations_are_named() -> None:
    report = analyze(Network.sequential("net", (1, 3, 8, 8), [_Mystery(), Conv2d(4, 3)]))
    record = report.to_dict()
    assert record["uncounted"] == ["_mystery1"]
    assert [row["counted"] for row in record["layers"]] == [True, False, True]


def test_closed_forms_become_text_and_numbers_stay_numbers() -> None:
    pytest.importorskip("sympy")
    net = Network.sequential("net", (1, 3, 8, 8), [Conv2d(64, 3, padding=1), Flatten(), Linear(10)])
    record = analyze(net, ("N", 3, "H", "W")).to_dict()
    conv = record["layers"][1]
    assert conv["macs"] == "1728·N·H·W"
    assert conv["output"] == ["N", 64, "H", "W"]
    assert conv["weights"] == 1728
    assert record["input"] == ["N", 3, "H", "W"]
    assert json.loads(json.dumps(record)) == record


def test_sweeps_become_lists() -> None:
    np = pytest.importorskip("numpy")
    net = Network.sequential("net", (1, 3, 8, 8), [Conv2d(64, 3, padding=1)])
    record = analyze(net, (np.array([1, 2]), 3, 8, 8)).to_dict()
    assert record["total"]["macs"] == [1728 * 64, 2 * 1728 * 64]
    assert record["layers"][1]["output"] == [[1, 2], 64, 8, 8]
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), (10**30, 10**30), ((1, (2, 3)), [1, [2, 3]]), ({"mac": 5}, {"mac": 5})]
)
def test_plain(value: Any, expected: Any) -> None:
    assert plain(value) == expected


def test_plain_takes_numbers_of_other_kinds() -> None:
    np, sympy = pytest.importorskip("numpy"), pytest.importorskip("sympy")
    for number in (np.int64(1728), sympy.Integer(1728)):
        assert plain(number) == 1728
        assert type(plain(number)) is int


def test_explanations_as_data() -> None:
    record = explanation_record(analyze(zoo.vgg19()))
    assert json.loads(json.dumps(record)) == record
    assert record["layers"][0]["name"] == "input"
    assert record["layers"][-1]["name"] == "total"
    assert "letters" not in record["layers"][-1]["working"]["params"]
    one = explanation_record(analyze(zoo.vgg19()), "fc6")
    assert [layer["name"] for layer in one["layers"]] == ["fc6"]
    assert one["layers"][0]["working"]["weights"]["letters"] == "(H·W·C)·K"
    with pytest.raises(UnknownNameError, match="unknown layer 'fc9'; did you mean"):
        explanation_record(analyze(zoo.vgg19()), "fc9")
