"""Inception modules, Szegedy et al. 2015, Figure 2: naive, and with dimension reduction.

The default filters are those of inception (3b) in the paper's Table 1, on the 32×32×256 input of the lab sheet
(COMS E6998 Homework 3, Problem 3.4, Figure 1).
"""

from __future__ import annotations

from archcalc.graph import Builder, Network
from archcalc.layers import BatchNorm2d, Concat, Conv2d, MaxPool2d, ReLU
from archcalc.zoo.registry import entry

PAPER = "Szegedy et al., Going Deeper with Convolutions, CVPR 2015, arXiv 1409.4842"


def conv(net: Builder, width: int, kernel: int, name: str, *, bias: bool, batch_norm: bool = False) -> str:
    """A convolution that keeps the size, its batch norm if it has one, and its ReLU; the name of the output."""
    net.add(Conv2d(width, kernel, padding=kernel // 2, bias=bias), name)
    if batch_norm:
        net.add(BatchNorm2d(eps=0.001), f"bn_{name}")
    return net.add(ReLU(inplace=True), f"relu_{name}")


@entry("inception-naive", family="Inception", year=2014, paper=PAPER)
def inception_naive(
    *,
    conv1x1: int = 128,
    conv3x3: int = 192,
    conv5x5: int = 96,
    channels: int = 256,
    size: int = 32,
    bias: bool = True,
) -> Network:
    """The naive inception module, Figure 2 (a): 1×1, 3×3, 5×5 convolutions and 3×3 max-pooling side by side."""
    net = Builder("inception-naive", (1, channels, size, size))
    start = net.last
    outputs = []
    for width, kernel in ((conv1x1, 1), (conv3x3, 3), (conv5x5, 5)):
        net.last = start
        outputs.append(conv(net, width, kernel, f"conv{kernel}x{kernel}", bias=bias))
    outputs.append(net.add(MaxPool2d(3, stride=1, padding=1), "pool", after=start))
    net.add(Concat(), "concat", after=outputs)
    return net.network()


@entry("inception-reduced", family="Inception", year=2014, paper=PAPER)
def inception_reduced(
    *,
    conv1x1: int = 128,
    reduce3x3: int = 128,
    conv3x3: int = 192,
    reduce5x5: int = 32,
    conv5x5: int = 96,
    pool_proj: int = 64,
    channels: int = 256,
    size: int = 32,
    bias: bool = True,
) -> Network:
    """The inception module with dimension reduction, Figure 2 (b): 1×1 convolutions before the 3×3 and 5×5."""
    net = Builder("inception-reduced", (1, channels, size, size))
    inception_module(net, conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, pool_proj, bias=bias)
    return net.network()


def inception_module(
    net: Builder,
    conv1x1: int,
    reduce3x3: int,
    conv3x3: int,
    reduce5x5: int,
    conv5x5: int,
    pool_proj: int,
    *,
    bias: bool = True,
    batch_norm: bool = False,
    third: str = "5x5",
) -> str:
    """The module with dimension reduction after the last layer; widths in the order of the paper's Table 1.

    `third` names the third branch and, by its first figure, its kernel.
    """
    start = net.last

    def add(width: int, kernel: int, name: str) -> str:
        return conv(net, width, kernel, name, bias=bias, batch_norm=batch_norm)

    outputs = [add(conv1x1, 1, "conv1x1")]
    for reduced, width, branch in ((reduce3x3, conv3x3, "3x3"), (reduce5x5, conv5x5, third)):
        net.last = start
        add(reduced, 1, f"reduce{branch}")
        outputs.append(add(width, int(branch[0]), f"conv{branch}"))
    net.add(MaxPool2d(3, stride=1, padding=1), "pool", after=start)
    outputs.append(add(pool_proj, 1, "pool_proj"))
    return net.add(Concat(), "concat", after=outputs)
