"""The VGG networks, configurations A to E of Simonyan & Zisserman 2015, Table 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from archcalc.graph import Builder, Network
from archcalc.layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, LocalResponseNorm, MaxPool2d, ReLU
from archcalc.zoo.parts import classifier
from archcalc.zoo.registry import Reference, entry

PAPER = "Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015"
WIDTHS = (64, 128, 256, 512, 512)


def vgg(
    name: str,
    kernels: tuple[str, ...],
    *,
    bias: bool,
    classes: int,
    batch_norm: bool = False,
    avgpool: bool = False,
    lrn: bool = False,
) -> Network:
    """A VGG network from the kernel sizes of its convolutions, one string a block: "331" is 3×3, 3×3, 1×1.

    With `lrn` the first convolution's maps are normalised.
    """
    net = Builder(name, (1, 3, 224, 224))
    for block, (width, sizes) in enumerate(zip(WIDTHS, kernels, strict=True), start=1):
        with net.block(f"block{block}", prefix=False):
            for index, size in enumerate(map(int, sizes), start=1):
                net.add(Conv2d(width, size, padding=size // 2, bias=bias), f"conv{block}_{index}")
                if batch_norm:
                    net.add(BatchNorm2d(), f"bn{block}_{index}")
                net.add(ReLU(inplace=True), f"relu{block}_{index}")
                if lrn and block == index == 1:
                    net.add(LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0), "norm1_1")
            net.add(MaxPool2d(2, stride=2), f"pool{block}")
    if avgpool:
        net.add(AdaptiveAvgPool2d(7), "avgpool")
    classifier(net, classes, bias=bias)
    return net.network()


def _torchvision(model: str) -> Callable[[Mapping[str, Any]], Reference | None]:
    """torchvision's VGG puts an adaptive average pool before the classifier, an identity at 224×224."""

    def reference(choices: Mapping[str, Any]) -> Reference | None:
        if not choices["bias"]:
            return None
        name = f"{model}_bn" if choices["batch_norm"] else model
        return Reference(name, {**choices, "avgpool": True}, {"num_classes": choices["classes"]})

    return reference


@entry("vgg11", family="VGG", year=2014, paper=PAPER, torchvision=_torchvision("vgg11"))
def vgg11(*, bias: bool = True, batch_norm: bool = False, avgpool: bool = False, classes: int = 1000) -> Network:
    """VGG-11, configuration A."""
    kernels = ("3", "3", "33", "33", "33")
    return vgg("vgg11", kernels, bias=bias, batch_norm=batch_norm, avgpool=avgpool, classes=classes)


@entry("vgg11-lrn", family="VGG", year=2014, paper=PAPER)
def vgg11_lrn(*, bias: bool = True, classes: int = 1000) -> Network:
    """VGG-11 with local response normalisation, configuration A-LRN."""
    return vgg("vgg11-lrn", ("3", "3", "33", "33", "33"), bias=bias, classes=classes, lrn=True)


@entry("vgg13", family="VGG", year=2014, paper=PAPER, torchvision=_torchvision("vgg13"))
def vgg13(*, bias: bool = True, batch_norm: bool = False, avgpool: bool = False, classes: int = 1000) -> Network:
    """VGG-13, configuration B."""
    kernels = ("33", "33", "33", "33", "33")
    return vgg("vgg13", kernels, bias=bias, batch_norm=batch_norm, avgpool=avgpool, classes=classes)


@entry("vgg16", family="VGG", year=2014, paper=PAPER, torchvision=_torchvision("vgg16"))
def vgg16(*, bias: bool = True, batch_norm: bool = False, avgpool: bool = False, classes: int = 1000) -> Network:
    """VGG-16, configuration D."""
    kernels = ("33", "33", "333", "333", "333")
    return vgg("vgg16", kernels, bias=bias, batch_norm=batch_norm, avgpool=avgpool, classes=classes)


@entry("vgg16c", family="VGG", year=2014, paper=PAPER)
def vgg16c(*, bias: bool = True, batch_norm: bool = False, avgpool: bool = False, classes: int = 1000) -> Network:
    """VGG-16 with 1×1 convolutions, configuration C."""
    kernels = ("33", "33", "331", "331", "331")
    return vgg("vgg16c", kernels, bias=bias, batch_norm=batch_norm, avgpool=avgpool, classes=classes)


@entry("vgg19", family="VGG", year=2014, paper=PAPER, torchvision=_torchvision("vgg19"))
def vgg19(*, bias: bool = True, batch_norm: bool = False, avgpool: bool = False, classes: int = 1000) -> Network:
    """VGG-19, configuration E."""
    kernels = ("33", "33", "3333", "3333", "3333")
    return vgg("vgg19", kernels, bias=bias, batch_norm=batch_norm, avgpool=avgpool, classes=classes)
