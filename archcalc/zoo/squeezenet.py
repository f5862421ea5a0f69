"""SqueezeNet 1.0 and 1.1, Iandola et al. 2016."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archcalc.graph import Builder, Network
from archcalc.layers import AdaptiveAvgPool2d, Concat, Conv2d, Dropout, Flatten, MaxPool2d, ReLU
from archcalc.zoo.registry import Reference, entry

PAPER = "Iandola et al., SqueezeNet: AlexNet-Level Accuracy with 50x Fewer Parameters, arXiv 1602.07360"

# Table 1, fire2 to fire9: filters of the squeeze layer, and of each of both expand layers
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def _squeezenet(name: str, first: Conv2d, pooled: Sequence[int], classes: int) -> Network:
    """A network from its first convolution and the numbers of the fire modules that come after a max-pool."""
    net = Builder(name, (1, 3, 224, 224))

    def convolution(layer: Conv2d, name: str) -> str:
        net.add(layer, name)
        return net.add(ReLU(inplace=True), f"relu_{name}")

    convolution(first, "conv1")
    for index, (squeeze, expand) in enumerate(FIRES, start=2):
        if index in pooled:
            net.add(MaxPool2d(3, stride=2, ceil_mode=True), f"pool{index - 1}")
        with net.block(f"fire{index}"):
            start = convolution(Conv2d(squeeze, 1), "squeeze")
            expanded = [convolution(Conv2d(expand, 1), "expand1x1")]
            net.last = start
            expanded.append(convolution(Conv2d(expand, 3, padding=1), "expand3x3"))
            net.add(Concat(), "concat", after=expanded)
    net.add(Dropout(0.5), "dropout")
    convolution(Conv2d(classes, 1), "conv10")
    net.add(AdaptiveAvgPool2d(1), "avgpool")
    net.add(Flatten(), "flatten")
    return net.network()


def _reference(model: str, choices: Mapping[str, Any]) -> Reference:
    return Reference(model, choices, {"num_classes": choices["classes"]})


@entry(
    "squeezenet1-0",
    family="SqueezeNet",
    year=2016,
    paper=PAPER,
    torchvision=lambda c: _reference("squeezenet1_0", c),
)
def squeezenet1_0(*, classes: int = 1000) -> Network:
    """SqueezeNet 1.0, that of the paper; its 111×111 maps need an input of 227×227."""
    return _squeezenet("squeezenet1-0", Conv2d(96, 7, stride=2), (2, 5, 9), classes)


@entry(
    "squeezenet1-1",
    family="SqueezeNet",
    year=2016,
    paper=PAPER,
    torchvision=lambda c: _reference("squeezenet1_1", c),
)
def squeezenet1_1(*, classes: int = 1000) -> Network:
    """SqueezeNet 1.1, of the authors' repository: a smaller first convolution, and pooling earlier."""
    return _squeezenet("squeezenet1-1", Conv2d(64, 3, stride=2), (2, 4, 6), classes)
