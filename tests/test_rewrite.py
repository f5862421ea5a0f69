"""What-ifs: rewritten networks, by arithmetic, by real modules, and by what they must not change."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sympy
import torch
from torch import nn

import archcalc as ac
from archcalc import Builder, Network, analyze, rewrite, zoo
from archcalc.cli import main
from archcalc.errors import ArchcalcError, InputError, SpecError, UnknownNameError
from archcalc.layers import (
    GELU,
    GRU,
    Add,
    BatchNorm2d,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Layer,
    Linear,
    PadChannels,
    ReLU,
    Sigmoid,
)
from archcalc.layers.operation import Elementwise
from archcalc.pytorch.build import build
from archcalc.targets import resolve


def net(*layers: Layer, channels: int = 8, size: int = 16) -> Network:
    return Network.sequential("net", (1, channels, size, size), layers)


def layers_of(network: Network) -> dict[str, Layer]:
    return {node.name: node.layer for node in network if node.inputs}


# Each rewrite


def test_depthwise_separable() -> None:
    network = net(Conv2d(32, 5, stride=2, padding=2, bias=False), BatchNorm2d(), ReLU(), Conv2d(4, 1))
    found = rewrite.depthwise_separable(network)
    assert found.name == "net+depthwise-separable"
    assert layers_of(found) == {
        "conv2d1.depthwise": Conv2d(8, 5, stride=2, padding=2, groups=8, bias=False),
        "conv2d1.bn1": BatchNorm2d(),
        "conv2d1.relu1": ReLU(),
        "conv2d1.pointwise": Conv2d(32, 1, bias=False),
        "batchnorm2d1": BatchNorm2d(),
        "relu1": ReLU(),
        "conv2d2": Conv2d(4, 1),
    }
    assert found["batchnorm2d1"].inputs == ("conv2d1.pointwise",)
    assert found["conv2d1.bn1"].blocks == ("conv2d1",)
    assert found["batchnorm2d1"].blocks == ()
    # 8·8·8·25 + 8·8·32·8 of 8·8·32·8·25; the last convolution is 1×1 and stays: 8·8·4·32
    assert analyze(found).total.macs == 12_800 + 16_384 + 8_192
    assert analyze(network).total.macs == 409_600 + 8_192


def test_a_stack_sees_what_the_large_kernel_sees() -> None:
    for size, padding, stride, dilation in ((5, 2, 1, 1), (7, 3, 2, 1), (11, 2, 4, 1), (5, 0, 3, 2), (7, 4, 1, 1)):
        layer = Conv2d(6, size, stride=stride, padding=padding, dilation=dilation)
        before = analyze(net(layer, ReLU(), size=63)).rows[-1]
        report = analyze(rewrite.stacked(net(layer, ReLU(), size=63)))
        after = report.rows[-1]
        assert [row.name for row in report if row.kind == "Conv2d"] == [f"conv2d1.{i + 1}" for i in range(size // 2)]
        assert (after.fields, after.output) == (before.fields, before.output)
    # 3·(9·C·C) against 49·C·C weights (Simonyan & Zisserman 2014, section 2.3), C = 8
    seven = net(Conv2d(8, 7, padding=3, bias=False))
    assert analyze(seven).total.weights == 49 * 64
    assert analyze(rewrite.stacked(seven)).total.weights == 27 * 64
    same = rewrite.stacked(net(Conv2d(8, 5, padding="same")))
    assert layers_of(same) == {"conv2d1.1": Conv2d(8, 3, padding="same"), "conv2d1.2": Conv2d(8, 3, padding="same")}
    with pytest.raises(SpecError, match="stacked applies to no layer: there is not a convolution of 5×5"):
        rewrite.stacked(net(Conv2d(8, 4), Conv2d(8, (5, 7)), Conv2d(8, 3)))


def test_bottleneck() -> None:
    found = rewrite.bottleneck(net(Conv2d(64, 3, padding=1, stride=2), ReLU(), channels=32))
    assert layers_of(found) == {
        "conv2d1.reduce": Conv2d(16, 1),
        "conv2d1.relu1": ReLU(),
        "conv2d1.conv": Conv2d(16, 3, padding=1, stride=2),
        "conv2d1.relu2": ReLU(),
        "conv2d1.expand": Conv2d(64, 1),
        "relu1": ReLU(),
    }
    assert found.name == "net+bottleneck=4"
    assert layers_of(rewrite.bottleneck(net(Conv2d(64, 3)), 16))["conv2d1.reduce"] == Conv2d(4, 1)
    with pytest.raises(SpecError, match="a convolution of k×k on more channels than 1/4 of its own"):
        rewrite.bottleneck(net(Conv2d(64, 3)))  # 16 channels of 8 would be no bottleneck


def test_groups() -> None:
    found = rewrite.groups(net(Conv2d(12, 3), Conv2d(16, 3), Conv2d(10, 3), Conv2d(8, 1)), 4)
    assert [layer.groups for layer in layers_of(found).values() if isinstance(layer, Conv2d)] == [4, 4, 1, 1]
    assert list(layers_of(found)) == ["conv2d1", "conv2d2", "conv2d3", "conv2d4"]
    with pytest.raises(SpecError, match=r"net: groups=5 applies to no layer"):
        rewrite.groups(net(Conv2d(12, 3)), 5)


def test_batch_norm() -> None:
    found = rewrite.batch_norm(net(Conv2d(4, 3), ReLU(), Conv2d(4, 3), BatchNorm2d(), ConvTranspose2d(2, 2)))
    assert layers_of(found) == {
        "conv2d1": Conv2d(4, 3, bias=False),
        "conv2d1_bn": BatchNorm2d(),
        "relu1": ReLU(),
        "conv2d2": Conv2d(4, 3),
        "batchnorm2d1": BatchNorm2d(),
        "convtranspose2d1": ConvTranspose2d(2, 2, bias=False),
        "convtranspose2d1_bn": BatchNorm2d(),
    }
    assert found.outputs == ("convtranspose2d1_bn",)
    # VGG-19 with batch norm is torchvision's vgg19_bn but for the biases, of which it has as many as channels: 5,504
    with_norm = analyze(rewrite.batch_norm(zoo.vgg19())).total
    assert with_norm.params == 143_678_248 - 5_504
    kinds = {row.kind for row in analyze(rewrite.batch_norm(Network.sequential("n", (1, 2, 9), [Conv1d(2, 3)])))}
    assert "BatchNorm1d" in kinds


def test_batch_norm_after_every_layer_but_the_last() -> None:
    found = rewrite.batch_norm(zoo.lenet5_cifar10(), "all")
    assert found.name == "lenet5-cifar10+batch-norm=all"
    # The zoo's own keeps the biases before its norms: 6 and 16 maps, 120 and 84 units.
    assert analyze(found).total.params == analyze(zoo.lenet5_cifar10(batch_norm=True)).total.params - 6 - 16 - 120 - 84
    assert [row.kind for row in analyze(found)][-3:] == ["BatchNorm1d", "ReLU", "Linear"]
    assert "conv10_bn" not in layers_of(rewrite.batch_norm(zoo.squeezenet1_0(), "all"))
    tokens = Network.sequential("tokens", (1, 5, 8), [Linear(4), Flatten(), Linear(6), Linear(3)])
    assert list(layers_of(rewrite.batch_norm(tokens, "all"))) == [
        *("linear1", "flatten1", "linear2", "linear2_bn", "linear3")
    ]
    with pytest.raises(UnknownNameError, match="unknown place for batch norms 'every'; there are: convolutions, all"):
        rewrite.apply(zoo.vgg19(), "batch-norm=every")
    with pytest.raises(SpecError, match="mlp: batch-norm applies to no layer: there is not a convolution without"):
        rewrite.apply(zoo.mlp(), "batch-norm")


def test_a_network_of_many_sums_is_widened_soon() -> None:
    builder = Builder("sums", (1, 4))
    builder.add(Linear(4))
    builder.add(Linear(4))
    for _ in range(60):  # 2^60 ways back from the last
        builder.add(Add(), after=(builder.last, builder.last))
    assert rewrite.width(builder.network(), 2)["linear1"].layer == Linear(8)


def test_activation() -> None:
    builder = Builder("net", (1, 4, 8, 8))
    source = builder.add(ReLU(inplace=True), "relu")
    gate = builder.add(Sigmoid(), "gate")
    builder.add(Elementwise("mul", (("mul", 1),)), "mul", after=(source, gate))
    found = rewrite.activation(builder.network(), "silu")
    assert (found["relu"].layer.kind, found["relu"].layer.in_place) == ("SiLU", True)
    assert found["gate"].layer == Sigmoid()  # it is a factor, no activation
    assert rewrite.activation(builder.network(), "GELU")["relu"].layer == GELU()
    with pytest.raises(UnknownNameError, match="unknown activation 'relo'; did you mean 'ReLU'"):
        rewrite.activation(builder.network(), "relo")
    with pytest.raises(SpecError, match="an activation other than ReLU"):
        rewrite.activation(net(ReLU()), "relu")
    with pytest.raises(SpecError, match="Threshold needs arguments"):
        rewrite.activation(net(ReLU()), "threshold")


def test_width() -> None:
    found = rewrite.width(net(Conv2d(10, 3), BatchNorm2d(), Conv2d(10, 3, groups=10), Flatten(), Linear(5)), 0.5)
    assert layers_of(found) == {
        "conv2d1": Conv2d(5, 3),
        "batchnorm2d1": BatchNorm2d(),
        "conv2d2": Conv2d(5, 3, groups=5),
        "flatten1": Flatten(),
        "linear1": Linear(5),
    }
    grouped = rewrite.width(net(Conv2d(8, 3), Conv2d(12, 3, groups=4), Conv2d(9, 3)), 0.3)
    # multiples of 4: 2.4 to 4, 3.6 to 4; the last layer keeps its width
    assert [layer.out_channels for layer in layers_of(grouped).values() if isinstance(layer, Conv2d)] == [4, 4, 9]
    assert rewrite.width(net(Conv2d(3, 1), Conv2d(1, 1)), 0.01)["conv2d1"].layer == Conv2d(1, 1)
    with pytest.raises(SpecError, match="net: no layer would have another width with width=1"):
        rewrite.width(net(Conv2d(3, 1), Conv2d(1, 1)), 1)
    with pytest.raises(SpecError, match="gru1: the width of GRU cannot be scaled"):
        rewrite.width(Network.sequential("n", (1, 5, 4), [GRU(7, batch_first=True), Linear(3)]), 0.5)


def test_the_widths_of_branches_stay_equal() -> None:
    for shortcut in ("A", "B", "C"):
        report = analyze(rewrite.width(zoo.resnet18(shortcut=shortcut), 0.3))
        # 64·0.3 = 19.2, 128·0.3 = 38.4, 256·0.3 = 76.8, 512·0.3 = 153.6
        assert report["layer1.0.add"].output[1] == 19
        assert report["layer2.0.add"].output[1] == 38
        assert report["layer3.0.add"].output[1] == 77
        assert report["layer4.0.add"].output[1] == 154
        assert report.output == (1, 1000)
    builder = Builder("net", (1, 4, 8, 8))
    one, two = builder.add(Conv2d(3, 1), after="input"), builder.add(Conv2d(3, 1), after="input")
    joined = builder.add(Concat(), after=(one, two))
    other = builder.add(Conv2d(6, 1), after="input")
    builder.add(Add(), "add", after=(joined, other))
    builder.add(Conv2d(2, 1))
    # 3·0.5 rounds to 2 in either branch, 6·0.5 is 3
    with pytest.raises(ArchcalcError, match=r"add \(Add\) in a network 0.5 times as wide: inputs to add must have"):
        rewrite.width(builder.network(), 0.5)
    padded = rewrite.width(net(Conv2d(4, 1), PadChannels(2), Conv2d(2, 1)), 0.5)
    assert padded["padchannels1"].layer == PadChannels(1)


def test_resolution() -> None:
    found = rewrite.resolution(zoo.vgg19(), 0.5)
    assert analyze(found).input == (1, 3, 112, 112)
    assert found.name == "vgg19+resolution=0.5"
    # convolutions do a quarter of the work: 112²/224²
    assert 4 * sum(row.macs for row in analyze(found) if row.kind == "Conv2d") == 19_508_428_800
    with pytest.raises(SpecError, match="resolution applies to images"):
        rewrite.resolution(Network.sequential("n", (1, 5), [Linear(3)]), 0.5)
    with pytest.raises(SpecError, match="leaves nothing of an image"):
        rewrite.resolution(zoo.vgg19(), 0.001)


# Closed forms


def test_closed_ratios() -> None:
    C, K, k = sympy.symbols("C K k", integer=True, positive=True)
    separable = rewrite.macs_ratio(rewrite.depthwise_separable)
    assert sympy.simplify(separable - (1 / K + 1 / k**2)) == 0
    for size in (5, 7, 11):
        n = size // 2
        stack = rewrite.macs_ratio(rewrite.stacked, size)
        assert sympy.simplify(stack - 9 * (C + (n - 1) * K) / (size**2 * C)) == 0
    assert rewrite.macs_ratio(rewrite.stacked, 7).subs({C: K}) == sympy.Rational(27, 49)


@pytest.mark.parametrize("name", ["vgg19", "resnet34"])
def test_the_closed_ratio_is_that_of_every_layer(name: str) -> None:
    ratio = rewrite.macs_ratio(rewrite.depthwise_separable)
    before = analyze(zoo.ENTRIES[name].build())
    after = analyze(rewrite.depthwise_separable(before.network))
    for row in before:
        layer: Any = row.node.layer
        if row.kind != "Conv2d" or layer.kernel_size == (1, 1):
            continue
        macs = sum(other.macs for other in after if other.name.startswith(f"{row.name}."))
        letters = {str(letter): letter for letter in ratio.free_symbols}
        expected = ratio.subs({letters["K"]: layer.out_channels, letters["k"]: layer.kernel_size[0]})
        assert sympy.Rational(macs, row.macs) == expected


# Networks of the zoo as real modules

WHAT_IFS = (
    "depthwise-separable",
    "stacked",
    "bottleneck",
    "groups=2",
    "batch-norm",
    "activation=GELU",
    "width=0.5",
    "resolution=2",
    "width=0.25+depthwise-separable+batch-norm",
)
NETWORKS = ("alexnet", "vgg11", "googlenet", "resnet18", "squeezenet1-1", "mobilenet-v2")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_rewrite_builds_and_counts_as_its_trace(name: str) -> None:
    applied = 0
    for text in WHAT_IFS:
        try:
            target = resolve(f"{name}+{text}")
        except SpecError:  # it applies to no layer
            continue
        applied += 1
        report = target.report()
        module = build(target.network, device="meta")
        traced = analyze(ac.trace(module, report.input))
        assert traced.total.params == report.total.params == sum(p.numel() for p in module.parameters())
        assert traced.total.macs == report.total.macs
        assert traced.output == report.output == tuple(module(torch.empty(report.input, device="meta")).shape)
    assert applied >= 4


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "mobilenet-v2"])
def test_a_traced_network_is_rewritten_as_its_own_spec_is(name: str) -> None:
    network = zoo.ENTRIES[name].build()
    shape = network.input_nodes[0].layer.output()
    traced = ac.trace(build(network, device="meta"), shape)
    for text in ("depthwise-separable", "width=0.5", "batch-norm", "groups=2"):
        try:
            spec = analyze(rewrite.apply(network, text)).total
        except SpecError:
            continue
        found = analyze(rewrite.apply(traced, text)).total
        assert (found.params, found.macs, found.ledger) == (spec.params, spec.macs, spec.ledger)


def test_shared_parameters_are_not_rewritten() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)
            self.head = nn.Conv2d(8, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(self.conv(x)))  # type: ignore[no-any-return]

    traced = ac.trace(Twice(), (1, 8, 9, 9))
    for text in ("depthwise-separable", "width=0.5"):
        with pytest.raises(SpecError, match=r"shares its weight with conv; it cannot be rewritten"):
            rewrite.apply(traced, text)
    assert rewrite.apply(traced, "groups=2@head")["head"].layer == Conv2d(2, 3, groups=2)


def test_the_network_given_is_not_changed() -> None:
    network = zoo.resnet18()
    before = network.nodes
    for text in ("depthwise-separable", "bottleneck", "groups=2", "activation=GELU", "width=0.5", "resolution=2"):
        rewrite.apply(network, text)
    assert network.nodes == before
    assert network == zoo.resnet18()


# As it is typed


def test_targets() -> None:
    target = resolve("vgg19+width=1/2+groups=2@conv5", ["bias=false"], ["3x64x64"], "2")
    assert (target.network.name, target.shape) == ("vgg19+width=1/2+groups=2@conv5", (2, 3, 64, 64))
    assert target.entry is None
    grouped = [node.name for node in target.network if getattr(node.layer, "groups", 1) == 2]
    assert grouped == ["conv5_1", "conv5_2", "conv5_3", "conv5_4"]
    assert target.report().total.biases == 0
    assert resolve("vgg19+resolution=0.5", inputs=["3x128x64"]).shape == (1, 3, 64, 32)
    closed = resolve("vgg19+resolution=0.5", inputs=["3xHxW"]).report()
    assert str(closed["conv1_1"].macs) == "1728*floor(H/2)*floor(W/2)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depthwise", "unknown rewrite 'depthwise'; did you mean 'depthwise-separable'?"),
        ("groups", "the rewrite groups needs a value: groups=GROUPS"),
        ("groups=x", "groups=x: the value must be a whole number"),
        ("groups=0", "groups is 0; it must be a whole number of at least 1"),
        ("width=1/0", "width=1/0: the value must be a number, such as 0.5 or 1/2"),
        ("width=-1", "factor is -1.0; it must be a number above 0, at most 1000"),
        ("width=1e999", "factor is inf; it must be a number above 0, at most 1000"),
        ("width=nan", "factor is nan; it must be a number above 0, at most 1000"),
        ("width=a", "width=a: the value must be a number, such as 0.5 or 1/2"),
        ("width=" + "9" * 50, "the value must be a number"),
        ("stacked=3", "the rewrite stacked takes no value, such as '3'"),
        ("width=0.5@conv", "the rewrite width is of the whole network; it takes no layers"),
        ("groups=2@(", "'(' is not a regular expression"),
        ("groups=2@nowhere", "groups=2 applies to no layer: there is not"),
        ("bottleneck=2=3", "bottleneck=2=3: the value must be a whole number"),
    ],
)
def test_what_is_typed_wrongly(text: str, message: str) -> None:
    with pytest.raises((InputError, SpecError, UnknownNameError)) as error:
        rewrite.apply(zoo.vgg19(), text)
    assert message in str(error.value)


def test_every_rewrite_says_what_it_does() -> None:
    assert list(rewrite.summaries()) == [
        "depthwise-separable",
        "stacked",
        "bottleneck[=RATIO]",
        "groups=GROUPS",
        "batch-norm[=WHERE]",
        "activation=KIND",
        "width=FACTOR",
        "resolution=FACTOR",
    ]
    assert all(summary.endswith(".") for summary in rewrite.summaries().values())


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["compare", "vgg19", "vgg19+depthwise-separable", "--layers", "--format", "json"])
    assert end.value.code == 0
    record = json.loads(capsys.readouterr().out)
    # conv1_2: 224²·64·(9·64) and 224²·(64·9 + 64·64)
    assert record["by_layer"]["conv1_2"] == [1_849_688_064, 234_422_272]
    with pytest.raises(SystemExit) as end:
        main(["show", "vgg19+stacked"])
    assert end.value.code == 2
    assert "vgg19: stacked applies to no layer" in capsys.readouterr().err


def test_mobilenet_is_a_rewrite_of_its_full_convolutions() -> None:
    entry = zoo.ENTRIES["mobilenet-v1"]
    mobilenet = analyze(entry.build()).total
    full = entry.build(separable=False)
    found = analyze(rewrite.depthwise_separable(full, layers="^block")).total
    assert (found.params, found.macs, found.ledger) == (mobilenet.params, mobilenet.macs, mobilenet.ledger)


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.75])
def test_width_is_the_width_multiplier_of_mobilenet(factor: float) -> None:
    entry = zoo.ENTRIES["mobilenet-v1"]
    own, found = analyze(entry.build(width=factor)).total, analyze(rewrite.width(entry.build(), factor)).total
    assert (found.params, found.macs, found.ledger) == (own.params, own.macs, own.ledger)
