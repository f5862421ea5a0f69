"""AlexNet: the paper's two towers, its one-tower form, and the network that torchvision calls AlexNet."""

from __future__ import annotations

from typing import Literal

from archcalc.graph import Builder, Network
from archcalc.layers import (
    AdaptiveAvgPool2d,
    Conv2d,
    Layer,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
)
from archcalc.zoo.parts import classifier
from archcalc.zoo.registry import Reference, entry


@entry(
    "alexnet",
    family="AlexNet",
    year=2012,
    paper="Krizhevsky, Sutskever & Hinton, ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012",
)
def alexnet(*, towers: Literal[1, 2] = 2, bias: bool = True, classes: int = 1000) -> Network:
    """The paper's AlexNet: two towers (groups in conv2, conv4, conv5), LRN, overlapping pooling, 227×227 input.

    The paper prints 224, from which (224 - 11)/4 + 1 is no whole number; 227 gives its 55×55 maps. One tower
    (`towers=1`) connects all maps with each other.
    """
    net = Builder("alexnet", (1, 3, 227, 227))

    def norm() -> Layer:
        return LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)

    def stage(index: int, conv: Conv2d, *rest: Layer) -> None:
        with net.block(f"stage{index}", prefix=False):
            net.add(conv, f"conv{index}")
            net.add(ReLU(inplace=True), f"relu{index}")
            for layer in rest:
                net.add(layer, f"{'norm' if isinstance(layer, LocalResponseNorm) else 'pool'}{index}")

    stage(1, Conv2d(96, 11, stride=4, bias=bias), norm(), MaxPool2d(3, stride=2))
    stage(2, Conv2d(256, 5, padding=2, groups=towers, bias=bias), norm(), MaxPool2d(3, stride=2))
    stage(3, Conv2d(384, 3, padding=1, bias=bias))
    stage(4, Conv2d(384, 3, padding=1, groups=towers, bias=bias))
    stage(5, Conv2d(256, 3, padding=1, groups=towers, bias=bias), MaxPool2d(3, stride=2))
    classifier(net, classes, bias=bias)
    return net.network()


@entry(
    "alexnet-torchvision",
    family="AlexNet",
    year=2014,
    paper="Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv 1404.5997",
    torchvision=lambda c: Reference("alexnet", c, {"num_classes": c["classes"]}),
)
def alexnet_torchvision(*, classes: int = 1000) -> Network:
    """torchvision's AlexNet, the one tower of "One weird trick": 64-192-384-256-256 maps, no LRN, 224×224 input."""
    net = Builder("alexnet-torchvision", (1, 3, 224, 224))
    convolutions = (
        Conv2d(64, 11, stride=4, padding=2),
        Conv2d(192, 5, padding=2),
        Conv2d(384, 3, padding=1),
        Conv2d(256, 3, padding=1),
        Conv2d(256, 3, padding=1),
    )
    for index, conv in enumerate(convolutions, start=1):
        with net.block(f"stage{index}", prefix=False):
            net.add(conv, f"conv{index}")
            net.add(ReLU(inplace=True), f"relu{index}")
            if index in (1, 2, 5):
                net.add(MaxPool2d(3, stride=2), f"pool{index}")
    net.add(AdaptiveAvgPool2d(6), "avgpool")
    classifier(net, classes, dropout_first=True)
    return net.network()
