"""DenseNet-121, Huang et al. 2017: every layer of a block reads the maps of all before it."""

from __future__ import annotations

from archcalc.graph import Builder, Network
from archcalc.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
)
from archcalc.zoo.registry import Reference, entry

BLOCKS = (6, 12, 24, 16)


@entry(
    "densenet121",
    family="DenseNet",
    year=2016,
    paper="Huang, Liu, van der Maaten & Weinberger, Densely Connected Convolutional Networks, CVPR 2017",
    torchvision=lambda c: (
        Reference(
            "densenet121",
            c,
            {"num_classes": c["classes"]},
            functional=frozenset({"ReLU", "AdaptiveAvgPool2d"}),
        )
        if c["growth"] == 32
        else None
    ),
)
def densenet121(*, growth: int = 32, classes: int = 1000) -> Network:
    """DenseNet-121 (DenseNet-BC): each layer adds `growth` maps, by way of a 1×1 to four times as many."""
    net = Builder("densenet121", (1, 3, 224, 224))
    channels = 2 * growth

    def normed(norm: str, conv: str, layer: Layer) -> str:
        net.add(BatchNorm2d(), norm)
        net.add(ReLU(inplace=True), norm.replace("norm", "relu"))
        return net.add(layer, conv)

    net.add(Conv2d(channels, 7, stride=2, padding=3, bias=False), "conv0")
    net.add(BatchNorm2d(), "norm0")
    net.add(ReLU(inplace=True), "relu0")
    net.add(MaxPool2d(3, stride=2, padding=1), "pool0")
    for index, count in enumerate(BLOCKS, start=1):
        with net.block(f"denseblock{index}"):
            maps = [net.last]
            for number in range(1, count + 1):
                with net.block(f"denselayer{number}"):
                    if len(maps) > 1:
                        net.add(Concat(), "concat", after=maps)
                    normed("norm1", "conv1", Conv2d(4 * growth, 1, bias=False))
                    maps.append(normed("norm2", "conv2", Conv2d(growth, 3, padding=1, bias=False)))
            net.add(Concat(), "concat", after=maps)
        channels += count * growth
        if index < len(BLOCKS):
            channels //= 2
            with net.block(f"transition{index}"):
                normed("norm", "conv", Conv2d(channels, 1, bias=False))
                net.add(AvgPool2d(2, stride=2), "pool")
    net.add(BatchNorm2d(), "norm5")
    net.add(ReLU(inplace=True), "relu5")
    net.add(AdaptiveAvgPool2d(1), "avgpool")
    net.add(Flatten(), "flatten")
    net.add(Linear(classes), "fc")
    return net.network()
