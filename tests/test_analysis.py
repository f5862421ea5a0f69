"""Reports: totals are sums of rows, rows are what torch has, names are found or listed."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given

from archcalc import Report, analyze, memory, trace, zoo
from archcalc.errors import InputError, UnknownNameError
from archcalc.graph import Builder, Network
from archcalc.layers import (
    Add,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    PadChannels,
    ReLU,
    Subsample,
)
from tests.interpreter import module
from tests.strategies import networks

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

COUNTS = ("activations", "weights", "biases", "params", "buffers", "macs")


@given(networks())
def test_totals_are_the_sums_of_the_rows(network: Network) -> None:
    report = analyze(network)
    for count in COUNTS:
        assert getattr(report.total, count) == sum(getattr(row, count) for row in report.rows)
    ledger: dict[str, int] = {}
    for row in report:
        for op, amount in row.ledger.items():
            ledger[op] = ledger.get(op, 0) + amount
    assert report.total.ledger == ledger
    assert report.total.macs == ledger.get("mac", 0)
    assert report.total.params == report.total.weights + report.total.biases
    assert report.uncounted == ()
    assert len(report) == len(network)


@given(networks())
def test_rows_have_the_parameters_and_outputs_of_torch(network: Network) -> None:
    report = analyze(network)
    for row in report:
        reference = module(row.node.layer, row.inputs) if row.kind != "Input" else None
        if reference is None:
            assert row.params == row.buffers == 0
            continue
        state = {name: value.numel() for name, value in reference.state_dict().items()}
        assert row.weights == state.pop("weight", 0)
        assert row.biases == state.pop("bias", 0)
        assert row.buffers == sum(state.values())
        assert row.params == sum(parameter.numel() for parameter in reference.parameters())
        output = reference.to("meta")(*(torch.zeros(x, dtype=torch.float64, device="meta") for x in row.inputs))
        assert row.output == tuple(output.shape)
        assert row.activations == (0 if row.node.layer.in_place else output.numel())


def test_a_report_written_out_by_hand() -> None:
    builder = Builder("net", (2, 3, 8, 8))
    shortcut = builder.add(Conv2d(8, 3, padding=1, bias=False), "conv")
    builder.add(BatchNorm2d(), "norm")
    builder.add(ReLU(inplace=True), "relu")
    builder.add(Conv2d(8, (3, 1), padding=(1, 0), groups=2), "grouped")
    builder.add(Add(), "add", after=(builder.last, shortcut))
    builder.add(MaxPool2d(2), "pool")
    builder.add(Flatten(), "flatten")
    builder.add(Dropout(), "dropout")
    builder.add(Linear(10), "fc")
    report = analyze(builder.network())
    found = {row.name: tuple(getattr(row, count) for count in COUNTS) for row in report}
    assert found == {
        # activations 2·3·8·8 = 384
        "input": (384, 0, 0, 0, 0, 0),
        # activations 2·8·8·8 = 1024; weights 3·3·3·8 = 216; MACs 2·8·8·216 = 27,648
        "conv": (1024, 216, 0, 216, 0, 27_648),
        # gamma 8, beta 8; mean 8, variance 8, number of batches 1
        "norm": (1024, 8, 8, 16, 17, 0),
        "relu": (0, 0, 0, 0, 0, 0),  # in place
        # 8/2 = 4 channels in: weights 3·1·4·8 = 96, biases 8; MACs 2·8·8·96 = 12,288
        "grouped": (1024, 96, 8, 104, 0, 12_288),
        "add": (1024, 0, 0, 0, 0, 0),
        # 2·8·4·4 = 256
        "pool": (256, 0, 0, 0, 0, 0),
        "flatten": (0, 0, 0, 0, 0, 0),
        "dropout": (0, 0, 0, 0, 0, 0),
        # 8·4·4 = 128 features: weights 128·10, biases 10; MACs 2·1280
        "fc": (20, 1280, 10, 1290, 0, 2560),
    }
    assert {row.name: dict(row.ledger) for row in report if row.ledger} == {
        "conv": {"mac": 27_648},
        "norm": {"mul": 1024, "add": 1024},
        "relu": {"cmp": 1024},
        "grouped": {"mac": 12_288, "bias_add": 1024},
        "add": {"add": 1024},
        "pool": {"cmp": 256 * 4},
        "fc": {"mac": 2560, "bias_add": 20},
    }
    assert report["fc"].output == (2, 10)
    # 27,648 + 12,288 + 2,560
    assert report.total.macs == 42_496
    # 216 + 16 + 104 + 1290
    assert report.total.params == 1626


def test_the_first_layers_of_vgg() -> None:
    net = Network.sequential("vgg", (1, 3, 224, 224), [Conv2d(64, 3, padding=1)])
    row = analyze(net)["conv2d1"]
    # 3·3·3·64 = 1,728; 224·224·64 = 3,211,264; 224·224·1,728 = 86,704,128 (the issue's own figures)
    assert (row.weights, row.biases, row.activations, row.macs) == (1728, 64, 3_211_264, 86_704_128)


@pytest.mark.parametrize("batch", [1, 2, 7])
@given(network=networks())
def test_parameters_do_not_depend_on_the_batch_and_costs_are_proportional(batch: int, network: Network) -> None:
    _, *rest = network.input_nodes[0].layer.output()
    one, many = analyze(network, (1, *rest)), analyze(network, (batch, *rest))
    for row, rows in zip(one, many, strict=True):
        if any(getattr(row.node.layer, "dim", 1) % len(x) == 0 for x in row.inputs):
            return  # joined or normalised along the batch
        if not getattr(row.node.layer, "track_running_stats", True):
            return  # whose statistics are of the whole batch
        assert rows.params == row.params
        assert rows.buffers == row.buffers
        assert rows.activations == batch * row.activations
        assert rows.ledger == {op: batch * amount for op, amount in row.ledger.items()}
    assert many.input == (batch, *rest)


def test_a_shortcut_without_weights_costs_an_addition() -> None:
    builder = Builder("net", (1, 4, 7, 7))
    source = builder.last
    branch = builder.add(Conv2d(6, 3, stride=2, padding=1, bias=False), after=source)
    builder.add(Subsample(2), "every other", after=source)
    builder.add(PadChannels(2), "zeros")
    builder.add(Add(), "add", after=(branch, builder.last))
    report = analyze(builder.network())
    assert report["every other"].output == (1, 4, 4, 4)
    assert report["zeros"].output == report["add"].output == (1, 6, 4, 4)
    # a view of the input; 6·4·4 = 96 elements written by the padding
    assert [report[name].activations for name in ("every other", "zeros", "add")] == [0, 96, 96]
    assert report["every other"].ledger == report["zeros"].ledger == {}
    assert report["add"].ledger == {"add": 96}


def test_concatenation_adds_channels() -> None:
    builder = Builder("net", (1, 4, 5, 5))
    source = builder.last
    ends = [builder.add(Conv2d(width, 1), after=source) for width in (2, 3)]
    builder.add(Concat(), "join", after=(*ends, source))
    row = analyze(builder.network())["join"]
    assert row.output == (1, 9, 5, 5)  # 2 + 3 + 4
    assert row.activations == 225  # 9·25
    assert row.macs == 0


def test_an_operation_without_a_rule_is_a_row_that_says_so() -> None:
    class Mystery(Layer):
        __slots__ = ()
        counted = False

        def output(self, *inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return inputs[0]

    from archcalc.layers import KINDS

    try:
        report = analyze(Network.sequential("net", (1, 3, 9, 9), [Mystery(), ReLU()]))
        assert [row.name for row in report.uncounted] == ["mystery1"]
        assert [row.counted for row in report] == [True, False, True]
    finally:
        del KINDS["Mystery"]


def test_a_row_is_found_by_name_or_the_names_are_listed() -> None:
    report = analyze(Network.sequential("net", (1, 3, 9, 9), [Conv2d(4, 3), ReLU()]))
    assert report["relu1"] is report.rows[2]
    with pytest.raises(UnknownNameError, match="conv2d1"):
        report["conv2d2"]


@pytest.mark.parametrize("shape", ["12", "1,3,9,9", [], (), 9, (0, 3, 9, 9), (1, 3, -9, 9), (1, 3, 9.0, 9)])
@pytest.mark.parametrize(
    "use",
    [
        lambda shape: analyze(Network.sequential("net", (1, 3, 9, 9), [ReLU()]), shape),
        lambda shape: Builder("net", shape),
        lambda shape: Network.sequential("net", shape, []),
    ],
    ids=["analyze", "Builder", "sequential"],
)
def test_a_malformed_input_shape_is_an_error(shape: Any, use: Callable[[Any], object]) -> None:
    with pytest.raises(InputError, match="input shape"):
        use(shape)


def test_equal_layers_have_equal_rows_and_keep_their_names() -> None:
    net = Network.sequential("net", (1, 4, 9, 9), [Conv2d(4, 3, padding=1), ReLU()] * 2 + [Conv2d(4, 3)])
    report = analyze(net)
    first, second, third = report["conv2d1"], report["conv2d2"], report["conv2d3"]
    assert (first.name, second.name) == ("conv2d1", "conv2d2")
    assert first.ledger == second.ledger != third.ledger
    assert first.inputs == second.inputs
    assert first.fields != second.fields  # equal work, but a larger receptive field


def test_what_is_done_to_a_ledger_that_was_given_out_changes_no_report() -> None:
    report = analyze(Network.sequential("net", (1, 4, 9, 9), [Conv2d(4, 3, padding=1)] * 2))
    before = report.total.macs
    report["conv2d1"].ledger.add({"mac": 1})
    assert report["conv2d2"].macs == report["conv2d1"].macs
    assert report.total.macs == before


def test_a_network_is_analyzed_on_its_own_input_unless_told_otherwise() -> None:
    net = Network.sequential("net", (1, 3, 9, 9), [Conv2d(4, 3)])
    assert analyze(net).input == (1, 3, 9, 9)
    assert analyze(net, [2, 5, 4, 4])["conv2d1"].output == (2, 4, 2, 2)
    assert analyze(net, [2, 5, 4, 4])["conv2d1"].weights == 180  # 3·3·5·4


class TwoInputs(torch.nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x * mask


def test_the_title_names_every_input() -> None:
    assert analyze(trace(TwoInputs(), ((1, 4), (1, 1)))).title == "twoinputs on 1×4 and 1×1"


def test_equal_reports_are_equal_and_rows_are_hashed_without_their_sources() -> None:
    """If rows were compared with their sources, each of ResNet-110's 54 residuals would double the time."""
    report, other = analyze(zoo.resnet110()), analyze(zoo.resnet110())
    assert report == other
    assert hash(report) == hash(other)
    assert report != analyze(zoo.resnet110(), (2, 3, 32, 32))
    assert len({*report.rows, *report.rows}) == len(report)
    assert report.rows[-1] != other.rows[-1]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda report: pickle.loads(pickle.dumps(report))])
def test_reports_can_be_copied_and_pickled(copied: Callable[[Report], Report]) -> None:
    report = analyze(zoo.resnet1202())
    again = copied(report)
    assert again == report
    assert again.network == report.network
    assert [row.macs for row in again] == [row.macs for row in report]
    assert again.rows[-1].sources[0] is again.rows[-2]


def test_a_notebook_shows_one_line_or_a_table() -> None:
    network = Network.sequential("net", (1, 3, 8, 8), [Conv2d(4, 3)])
    report = analyze(network)
    assert repr(network) == "<Network: net, 1 layer>"
    assert repr(report) == "<Report: net on 1×3×8×8, 2 rows>"
    # 1·3·8·8 = 192 flow in, 1·4·6·6 = 144 flow out; 3·3·3·4 = 108; 144·27 = 3,888
    assert repr(report.total) == "<Total: activations 336, weights 108, biases 4, params 112, buffers 0, macs 3,888>"
    assert repr(report["conv2d1"].working["weights"]) == "<(3·3·3)·4 = 108>"
    table = report.table(["layer", "params"])
    assert str(table) == table.to_terminal()
    assert table._repr_html_() == table.to_html()
    held = memory(report)
    assert held == memory(network)
    assert held != memory(network, optimizer="adam")
    assert len(repr(held)) < 100
    assert held._repr_html_() == held.summary().to_html()


@pytest.mark.parametrize(("given", "kind"), [("vgg19", "str"), (zoo.vgg19, "function"), (Conv2d(8, 3), "Conv2d")])
def test_what_is_no_network_is_named(given: Any, kind: str) -> None:
    with pytest.raises(InputError, match=f"takes a Network, such as .*, not a {kind}$"):
        analyze(given)
