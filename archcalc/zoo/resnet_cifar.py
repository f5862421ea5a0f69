"""Residual networks for CIFAR-10: He et al. 2015, section 4.2, and ResNet-18 on 32×32."""

from __future__ import annotations

from collections.abc import Callable

from archcalc.graph import Network
from archcalc.zoo.registry import entry
from archcalc.zoo.resnet import PAPER, WIDTHS, ResNet, Shortcut, basic


def _cifar(depth: int) -> Callable[..., Network]:
    """6n + 2 layers: a 3×3 convolution, n blocks for each of three sizes of maps, a fully connected layer."""
    name = f"resnet{depth}"

    @entry(name, family="ResNet for CIFAR", year=2015, paper=PAPER)
    def recipe(
        *, shortcut: Shortcut = "A", batch_norm: bool = True, conv_bias: bool = False, classes: int = 10
    ) -> Network:
        parts = ResNet(name, shortcut=shortcut, batch_norm=batch_norm, conv_bias=conv_bias, size=32)
        parts.stem(16, 3, 1)
        parts.stages((16, 32, 64), (depth // 6,) * 3, basic)
        return parts.head(classes)

    recipe.__doc__ = f"ResNet-{depth} for CIFAR-10, identity shortcuts throughout (option A)."
    return recipe


for _depth in (20, 32, 44, 56, 110, 1202):
    _cifar(_depth)


@entry("resnet18-cifar", family="ResNet for CIFAR", year=2015, paper=PAPER)
def resnet18_cifar(
    *, shortcut: Shortcut = "B", batch_norm: bool = True, conv_bias: bool = False, classes: int = 10
) -> Network:
    """ResNet-18 as it is used on CIFAR-10: the stem is a 3×3 convolution of stride 1, without max-pooling."""
    parts = ResNet("resnet18-cifar", shortcut=shortcut, batch_norm=batch_norm, conv_bias=conv_bias, size=32)
    parts.stem(WIDTHS[0], 3, 1)
    parts.stages(WIDTHS, (2, 2, 2, 2), basic)
    return parts.head(classes)
