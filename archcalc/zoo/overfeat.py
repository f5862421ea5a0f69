"""OverFeat: the fast network of Sermanet et al. 2014, Table 1."""

from __future__ import annotations

from archcalc.graph import Builder, Network
from archcalc.layers import Conv2d, MaxPool2d, ReLU
from archcalc.zoo.parts import classifier
from archcalc.zoo.registry import entry


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
