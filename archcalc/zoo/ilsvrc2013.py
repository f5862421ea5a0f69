"""Networks of the ImageNet challenge of 2013: ZFNet, and the fast network of OverFeat."""

from __future__ import annotations

from archcalc.graph import Builder, Network
from archcalc.layers import Conv2d, LocalResponseNorm, MaxPool2d, ReLU
from archcalc.zoo.parts import classifier
from archcalc.zoo.registry import entry


@entry(
    "zfnet",
    family="ZFNet",
    year=2013,
    paper="Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, arXiv 1311.2901",
)
def zfnet(*, bias: bool = True, classes: int = 1000) -> Network:
    """ZFNet, Figure 3 of the paper: AlexNet with a first kernel of 7×7, smaller strides and no towers.

    The paper prints maps of 110×110, 55×55, 26×26, 13×13, 6×6, but no padding: from 224×224 they follow with a padding
    of 1 in conv1 and with pooling windows that may end outside. The contrast normalisation is AlexNet's.
    """
    net = Builder("zfnet", (1, 3, 224, 224))
    convolutions = (
        Conv2d(96, 7, stride=2, padding=1, bias=bias),
        Conv2d(256, 5, stride=2, bias=bias),
        Conv2d(384, 3, padding=1, bias=bias),
        Conv2d(384, 3, padding=1, bias=bias),
        Conv2d(256, 3, padding=1, bias=bias),
    )
    for index, conv in enumerate(convolutions, start=1):
        with net.block(f"stage{index}", prefix=False):
            net.add(conv, f"conv{index}")
            net.add(ReLU(inplace=True), f"relu{index}")
            if index in (1, 2, 5):
                net.add(MaxPool2d(3, stride=2, ceil_mode=index < 5), f"pool{index}")
            if index in (1, 2):
                net.add(LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0), f"norm{index}")
    classifier(net, classes, bias=bias)
    return net.network()


@entry(
    "overfeat",
    family="OverFeat",
    year=2013,
    paper="Sermanet et al., OverFeat: Integrated Recognition, Localization and Detection, ICLR 2014, arXiv 1312.6229",
)
def overfeat(*, bias: bool = True, classes: int = 1000) -> Network:
    """OverFeat, the fast network, on 231×231: AlexNet without towers, LRN or overlapping pooling."""
    net = Builder("overfeat", (1, 3, 231, 231))
    convolutions = (
        Conv2d(96, 11, stride=4, bias=bias),
        Conv2d(256, 5, bias=bias),
        Conv2d(512, 3, padding=1, bias=bias),
        Conv2d(1024, 3, padding=1, bias=bias),
        Conv2d(1024, 3, padding=1, bias=bias),
    )
    for index, conv in enumerate(convolutions, start=1):
        with net.block(f"stage{index}", prefix=False):
            net.add(conv, f"conv{index}")
            net.add(ReLU(inplace=True), f"relu{index}")
            if index in (1, 2, 5):
                net.add(MaxPool2d(2, stride=2), f"pool{index}")
    classifier(net, classes, bias=bias, widths=(3072, 4096))
    return net.network()
