"""GoogLeNet: the paper's, torchvision's, and a small one for CIFAR-10."""

from __future__ import annotations

from archcalc.graph import Builder, Network
from archcalc.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
)
from archcalc.zoo.inception import PAPER, conv, inception_module
from archcalc.zoo.registry import Reference, entry

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = {"4a": "aux1", "4d": "aux2"}

# Figure 3: inception modules of 1×1 and 3×3 filters; modules that halve the size, of 3×3 filters beside a max-pool
MINI_MODULES: tuple[tuple[str, *tuple[int, ...]], ...] = (
    ("inception1a", 32, 32),
    ("inception1b", 32, 48),
    ("downsample1", 80),
    ("inception2a", 112, 48),
    ("inception2b", 96, 64),
    ("inception2c", 80, 80),
    ("inception2d", 48, 96),
    ("downsample2", 96),
    ("inception3a", 176, 160),
    ("inception3b", 176, 160),
)


@entry("googlenet", family="GoogLeNet", year=2014, paper=PAPER)
def googlenet(*, aux: bool = False, bias: bool = True, classes: int = 1000) -> Network:
    """GoogLeNet as in the paper: 5×5 convolutions, LRN, no batch norm; the auxiliary heads of training by choice."""
    net = Builder("googlenet", (1, 3, 224, 224))
    with net.block("stem", prefix=False):
        net.add(Conv2d(64, 7, stride=2, padding=3, bias=bias), "conv1")
        net.add(ReLU(inplace=True), "relu_conv1")
        net.add(MaxPool2d(3, stride=2, ceil_mode=True), "pool1")
        net.add(LocalResponseNorm(5), "norm1")
        conv(net, 64, 1, "reduce2", bias=bias)
        conv(net, 192, 3, "conv2", bias=bias)
        net.add(LocalResponseNorm(5), "norm2")
        net.add(MaxPool2d(3, stride=2, ceil_mode=True), "pool2")
    for name, widths in MODULES.items():
        with net.block(f"inception{name}"):
            end = inception_module(net, *widths, bias=bias)
        if aux and name in AUXILIARY:
            with net.block(AUXILIARY[name]):
                net.add(AvgPool2d(5, stride=3), "pool")
                conv(net, 128, 1, "conv", bias=bias)
                _auxiliary_head(net, classes, bias=bias)
            net.last = end
        if name in ("3b", "4e"):
            net.add(MaxPool2d(3, stride=2, ceil_mode=True), f"pool{name[0]}")
    net.add(AvgPool2d(7, stride=1), "avgpool")
    net.add(Dropout(0.4), "dropout")
    net.add(Flatten(), "flatten")
    net.add(Linear(classes, bias=bias), "fc")
    return net.network()


@entry(
    "googlenet-torchvision",
    family="GoogLeNet",
    year=2014,
    paper=PAPER,
    torchvision=lambda c: None if c["aux"] else _reference(c["classes"]),
)
def googlenet_torchvision(*, aux: bool = False, classes: int = 1000) -> Network:
    """torchvision's GoogLeNet: batch norm instead of LRN and biases, and 3×3 where the paper has 5×5."""
    net = Builder("googlenet-torchvision", (1, 3, 224, 224))
    with net.block("stem", prefix=False):
        net.add(Conv2d(64, 7, stride=2, padding=3, bias=False), "conv1")
        net.add(BatchNorm2d(eps=0.001), "bn_conv1")
        net.add(ReLU(inplace=True), "relu_conv1")
        net.add(MaxPool2d(3, stride=2, ceil_mode=True), "pool1")
        conv(net, 64, 1, "reduce2", bias=False, batch_norm=True)
        conv(net, 192, 3, "conv2", bias=False, batch_norm=True)
        net.add(MaxPool2d(3, stride=2, ceil_mode=True), "pool2")
    for name, widths in MODULES.items():
        with net.block(f"inception{name}"):
            end = inception_module(net, *widths, bias=False, batch_norm=True, third="3x3_2")
        if aux and name in AUXILIARY:
            with net.block(AUXILIARY[name]):
                net.add(AdaptiveAvgPool2d(4), "pool")
                conv(net, 128, 1, "conv", bias=False, batch_norm=True)
                _auxiliary_head(net, classes)
            net.last = end
        if name in ("3b", "4e"):
            net.add(MaxPool2d(3 if name == "3b" else 2, stride=2, ceil_mode=True), f"pool{name[0]}")
    net.add(AdaptiveAvgPool2d(1), "avgpool")
    net.add(Flatten(), "flatten")
    net.add(Dropout(0.2), "dropout")
    net.add(Linear(classes), "fc")
    return net.network()


def _auxiliary_head(net: Builder, classes: int, *, bias: bool = True) -> None:
    net.add(Flatten(), "flatten")
    net.add(Linear(1024, bias=bias), "fc1")
    net.add(ReLU(inplace=True), "relu_fc1")
    net.add(Dropout(0.7), "dropout")
    net.add(Linear(classes, bias=bias), "fc2")


def _reference(classes: int) -> Reference:
    """In evaluation torchvision's auxiliary heads do not run."""
    arguments = {"num_classes": classes, "aux_logits": False, "init_weights": False}
    return Reference("googlenet", {"aux": False, "classes": classes}, arguments, functional=frozenset({"ReLU"}))


@entry(
    "minigooglenet",
    family="GoogLeNet",
    year=2017,
    paper="Zhang et al., Understanding Deep Learning Requires Rethinking Generalization, ICLR 2017, arXiv 1611.03530",
)
def minigooglenet(*, batch_norm: bool = True, classes: int = 10) -> Network:
    """MiniGoogLeNet, the small Inception of Zhang et al. (Figure 3), on CIFAR-10 cropped to 28×28."""
    net = Builder("minigooglenet", (1, 3, 28, 28))

    def add(width: int, kernel: int, name: str, stride: int = 1) -> str:
        net.add(Conv2d(width, kernel, stride=stride, padding=kernel // 2, bias=not batch_norm), name)
        if batch_norm:
            net.add(BatchNorm2d(), f"bn_{name}")
        return net.add(ReLU(inplace=True), f"relu_{name}")

    add(96, 3, "conv1")
    for name, *widths in MINI_MODULES:
        with net.block(name):
            start = net.last
            if len(widths) == 1:
                branches = [add(widths[0], 3, "conv3x3", stride=2)]
                branches.append(net.add(MaxPool2d(3, stride=2, padding=1), "pool", after=start))
            else:
                branches = [add(widths[0], 1, "conv1x1")]
                net.last = start
                branches.append(add(widths[1], 3, "conv3x3"))
            net.add(Concat(), "concat", after=branches)
    net.add(AvgPool2d(7), "avgpool")
    net.add(Flatten(), "flatten")
    net.add(Linear(classes), "fc")
    return net.network()
