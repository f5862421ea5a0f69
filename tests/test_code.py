"""PyTorch source: it runs, reads as written by hand, and its module has the network's counts, shapes and layers."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from torch import nn

import archcalc as ac
from archcalc import zoo
from archcalc.code import source
from archcalc.errors import SpecError
from archcalc.graph import Builder, Network
from archcalc.layers import (
    GELU,
    GRU,
    LSTM,
    Add,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Embedding,
    Flatten,
    GroupNorm,
    Input,
    LayerNorm,
    Linear,
    LSTMCell,
    MaxPool2d,
    PadChannels,
    ReLU,
    Softmax,
    Subsample,
    Upsample,
)
from archcalc.layers.operation import MatMul
from archcalc.pytorch.build import build
from archcalc.specfile import read
from tests import strategies

SLICED = {"Subsample", "PadChannels", "slice", "constant_pad_nd"}
BORROWED = {"TableConv2d", "RBF", "ClassToken"}


def module(network: Network, device: str = "meta") -> nn.Module:
    """The module that the source of a network makes."""
    namespace: dict[str, Any] = {"__name__": "generated"}
    text = source(network)
    assert max(map(len, text.splitlines())) <= 120
    exec(compile(text, f"{network.name}.py", "exec"), namespace)
    name = text.rpartition("model = ")[2].partition("(")[0]
    with torch.device(device):
        made = namespace[name]().eval()
    assert isinstance(made, nn.Module)
    return made


def layers(network: Network, but: set[str]) -> list[tuple[str, Any]]:
    """Kind and output shape of every layer, in order."""
    rows = ac.analyze(network).rows
    return [(row.kind, row.output) for row in rows if row.kind not in but]


@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_the_zoo_as_source_has_the_same_counts(name: str) -> None:
    network = zoo.find(name).build()
    shape = network.input_nodes[0].layer.output()
    made = module(network)
    report = ac.analyze(network)
    assert sum(parameter.numel() for parameter in made.parameters()) == report.total.params
    assert sum(buffer.numel() for buffer in made.buffers()) == report.total.buffers
    assert made(torch.empty(shape, device="meta")).shape == report.output
    if len(network) > 1000:  # tracing takes its time
        return
    kinds = {node.layer.kind for node in network}
    traced = ac.trace(made, shape)
    assert ac.analyze(traced).total.macs == report.total.macs
    if not kinds & BORROWED:
        assert layers(traced, SLICED) == layers(network, SLICED)
        assert ac.analyze(traced).total.activations == report.total.activations


@pytest.mark.parametrize(("name", "lines"), [("resnet34", 100), ("resnet1202", 100), ("googlenet", 110), ("vgg19", 90)])
def test_what_repeats_is_written_once(name: str, lines: int) -> None:
    assert len(source(zoo.find(name).build()).splitlines()) < lines


@pytest.mark.parametrize("name", ["resnet18", "inception-reduced", "squeezenet1-1", "lenet5"])
def test_with_the_same_weights_it_computes_the_same(name: str) -> None:
    network = zoo.find(name).build()
    ours, theirs = module(network, "cpu"), build(network).eval()
    assert len(list(ours.parameters())) == len(list(theirs.parameters()))
    with torch.no_grad():
        tensors = [[*made.parameters(), *made.buffers()] for made in (ours, theirs)]
        for mine, other in zip(*tensors, strict=True):
            assert mine.shape == other.shape
            mine.copy_(other)
        x = torch.rand(theirs.shape, generator=torch.Generator().manual_seed(0))
        assert torch.equal(ours(x), theirs(x))


def test_it_runs_on_its_own(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        source(read(b"input: 1x28x28\nlayers: ['Conv2d(6, 5), ReLU, MaxPool2d(2)', Flatten, Linear(10)]", "n.yaml"))
    )
    ran = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True)
    # (5·5·1 + 1)·6 + (6·12·12 + 1)·10
    assert ran.stdout == "output (1, 10)\nparameters 8806\n"


def test_a_residual_block_reads_as_one() -> None:
    net = Builder("block", (1, 64, 56, 56))
    net.add(Conv2d(64, 3, padding=1, bias=False), "conv")
    net.add(BatchNorm2d(), "bn")
    net.add(Add(), "add", after=("bn", "input"))
    net.add(ReLU(inplace=True), "relu")
    lines = source(net.network()).splitlines()
    start = lines.index("class Block(nn.Module):")
    assert lines[start : start + 15] == [
        "class Block(nn.Module):",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        "        self.conv = nn.Conv2d(64, 64, kernel_size=3, padding=1, bias=False)",
        "        self.bn = nn.BatchNorm2d(64)",
        "        self.relu = nn.ReLU(inplace=True)",
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        "        out = self.conv(x)",
        "        out = self.bn(out)",
        "        out = out + x",
        "        out = self.relu(out)",
        "        return out",
        "",
        "",
    ]


def joined(
    *steps: tuple[str, Any, str], outputs: tuple[str, ...] = (), shape: tuple[int, ...] = (2, 4, 8, 8)
) -> Network:
    net = Builder("net", shape)
    for name, layer, after in steps:
        net.add(layer, name, after=after.split())
    network = net.network()
    return Network("net", network.nodes, outputs)


def test_a_value_that_is_needed_keeps_its_variable() -> None:
    network, reference = (
        joined(
            ("a", ReLU(inplace=inplace), "input"),
            ("b", Softmax(1), "a"),
            ("c", ReLU(inplace=inplace), "b"),
            ("d", Add(inplace=inplace), "b a"),
            ("e", Concat(), "c d input"),
            ("f", Subsample(2), "e"),
            ("g", PadChannels(3), "f"),
        )
        for inplace in (True, False)
    )
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    assert torch.equal(module(network, "cpu")(x), build(reference).eval()(kept))
    assert torch.equal(x, kept)


def test_a_value_that_nobody_reads_gives_its_variable_to_the_next() -> None:
    steps = (("a", ReLU(), "input"), ("b", Softmax(1), "input"), ("unread", GELU(), "input"), ("c", Concat(), "a b"))
    network = joined(*steps)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(module(network, "cpu")(x), build(network).eval()(x))


def test_several_inputs_and_outputs() -> None:
    text = "input: {left: 8, right-hand: 8}\nlayers:\n  - a: Linear(4)\n    after: left\n"
    text += "  - b: Linear(4)\n    after: right-hand\n  - c: Add\n    after: [a, b]\noutputs: [c, a]\n"
    network = read(text.encode(), "net.yaml")
    made = module(network, "cpu")
    first, second = made(torch.zeros(1, 8), torch.ones(1, 8))
    assert "def forward(self, left: Tensor, right_hand: Tensor) -> tuple[Tensor, Tensor]:" in source(network)
    assert (first.shape, second.shape) == ((1, 4), (1, 4))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("layer", "shape", "line"),
    [
        (LSTM(8), (5, 2, 4), "x, _ = self.layer(x)"),
        (
            GRU(8, num_layers=2, batch_first=True),
            (5, 2, 4),
            "nn.GRU(input_size=4, hidden_size=8, num_layers=2, batch_first=True)",
        ),
        (LSTMCell(8), (5, 4), "x, _ = self.layer(x)"),
        (Embedding(10, 3), (2, 7), "model(torch.zeros(2, 7, dtype=torch.long))"),
        (GroupNorm(2), (1, 4, 3, 3), "nn.GroupNorm("),
        (LayerNorm((4, 5)), (1, 4, 5), "nn.LayerNorm((4, 5))"),
        (Upsample(scale_factor=1.5, mode="bilinear"), (1, 4, 4, 4), "nn.Upsample(scale_factor=1.5, mode='bilinear')"),
        (MaxPool2d(3, stride=2), (1, 4, 9, 9), "nn.MaxPool2d(3, stride=2)"),
        (MaxPool2d((3, 2)), (1, 4, 9, 9), "nn.MaxPool2d((3, 2))"),
        (Conv2d(8, (3, 5), padding="same"), (1, 4, 9, 9), "nn.Conv2d(4, 8, kernel_size=(3, 5), padding='same')"),
        (Linear(8, bias=False), (1, 4), "nn.Linear(4, 8, bias=False)"),
        (Dropout(0.2), (1, 4), "nn.Dropout(p=0.2)"),
        (Flatten(0), (1, 4), "nn.Flatten(start_dim=0)"),
    ],
)
def test_layers_are_written_as_torch_takes_them(layer: Any, shape: tuple[int, ...], line: str) -> None:
    net = Builder("net", shape)
    net.add(layer, "layer")
    network = net.network()
    assert line in source(network)
    dtype = torch.long if isinstance(layer, Embedding) else torch.float32
    assert module(network)(torch.zeros(shape, dtype=dtype, device="meta")).shape == ac.analyze(network).output


def test_names_that_python_or_torch_takes_are_changed() -> None:
    network = joined(
        ("train", ReLU(), "input"),
        ("class", ReLU(), "train"),
        ("1x1", ReLU(), "class"),
        ("a-b", ReLU(), "1x1"),
        ("a_b", ReLU(), "a-b"),
    )
    made = module(network, "cpu")
    assert [name for name, _ in made.named_children()] == ["train_", "class_", "layer1x1", "a_b", "a_b_"]
    assert made(torch.zeros(2, 4, 8, 8)).shape == (2, 4, 8, 8)


@pytest.mark.parametrize("name", ["torch", "nn", "Tensor", "3x3 net", "class", "RBF", "é"])
def test_any_network_name_makes_a_class(name: str) -> None:
    made = module(Network.sequential(name, (1, 4), [Linear(2)]))
    assert made(torch.zeros(1, 4, device="meta")).shape == (1, 2)


def test_what_has_no_source_is_named() -> None:
    network = joined(("mm", MatMul("bmm"), "input input"), shape=(2, 4, 4))
    with pytest.raises(SpecError, match="mm: there is no PyTorch source for bmm"):
        source(network)
    with pytest.raises(SpecError, match="input of whole numbers"):
        source(zoo.vgg11(), ("N", 3, 224, 224))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=40)
@given(strategies.networks(most=8))
def test_any_network_runs_as_source(network: Network) -> None:
    assume(len(network) > 1)
    assume(not any(isinstance(node.layer, BatchNorm2d) for node in network))
    made, report = module(network), ac.analyze(network)
    assert made(torch.empty(report.input, device="meta")).shape == report.output
    traced = ac.analyze(ac.trace(made, report.input)).total
    assert (traced.params, traced.macs) == (report.total.params, report.total.macs)


def test_blocks_of_every_form() -> None:
    """Blocks that repeat, that chain, that take from outside or are looked into, inside one another."""
    for prefix, tapped in itertools.product((True, False), (True, False)):
        net = Builder("net", (1, 8, 8, 8))
        with net.block("stem"):
            net.add(Conv2d(8, 3, padding=1), "conv")
            tap = net.add(ReLU(), "relu")
            net.add(Conv2d(8, 3, padding=1), "conv2")
        for index in range(3):
            with net.block(f"body{index}", prefix=prefix):
                start = net.last
                with net.block(f"inner{index}"):
                    net.add(Conv2d(8, 1), f"conv{'' if prefix else index}")
                net.add(Add(), f"add{'' if prefix else index}", after=(net.last, tap if tapped else start))
        network = net.network()
        assert isinstance(network.nodes[0].layer, Input)
        made = module(network)
        report = ac.analyze(network).total
        assert made(torch.empty(1, 8, 8, 8, device="meta")).shape == (1, 8, 8, 8)
        # (3·3·8 + 1)·8 twice, (8 + 1)·8 three times
        assert sum(parameter.numel() for parameter in made.parameters()) == 2 * 584 + 3 * 72 == report.params
