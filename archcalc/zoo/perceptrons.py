"""Fully connected networks of courses: the CIFAR-10 perceptron, and one so deep and narrow that it dies."""

from __future__ import annotations

from archcalc.graph import Builder, Network
from archcalc.layers import Flatten, Linear, ReLU
from archcalc.zoo.registry import entry


def _hidden(net: Builder, widths: list[int], outputs: int, *, bias: bool) -> Network:
    for index, width in enumerate(widths, start=1):
        net.add(Linear(width, bias=bias), f"fc{index}")
        net.add(ReLU(inplace=True), f"relu{index}")
    net.add(Linear(outputs, bias=bias), f"fc{len(widths) + 1}")
    return net.network()


@entry(
    "mlp",
    family="Perceptron",
    year=1986,
    paper="Rumelhart, Hinton & Williams, Learning Representations by Back-Propagating Errors, Nature 323, 1986",
)
def mlp(*, width: int = 1000, hidden: int = 2, bias: bool = True, classes: int = 10) -> Network:
    """The multilayer perceptron 3072-1000-1000-10 on the 32×32×3 images of CIFAR-10."""
    net = Builder("mlp", (1, 3, 32, 32))
    net.add(Flatten(), "flatten")
    return _hidden(net, [width] * hidden, classes, bias=bias)


@entry(
    "deep-narrow",
    family="Perceptron",
    year=2019,
    paper="Lu, Shin, Su & Karniadakis, Dying ReLU and Initialization, arXiv 1903.06733",
)
def deep_narrow(*, width: int = 2, depth: int = 10, bias: bool = True) -> Network:
    """A ReLU network of 10 layers of width 2, from one number to one, which is likely to be born dead."""
    return _hidden(Builder("deep-narrow", (1, 1)), [width] * (depth - 1), 1, bias=bias)
