"""Residual networks and their plain twins, He et al. 2015, Table 1 and Figure 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from archcalc.graph import Builder, Network
from archcalc.layers import (
    AdaptiveAvgPool2d,
    Add,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    PadChannels,
    ReLU,
    Subsample,
)
from archcalc.zoo.registry import Reference, entry

PAPER = "He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385"
WIDTHS = (64, 128, 256, 512)

Shortcut: TypeAlias = Literal["A", "B", "C"]
StrideOn: TypeAlias = Literal["1x1", "3x3"]
Block: TypeAlias = Callable[[int, int], list[tuple[int, int, int]]]
"""The convolutions (width, kernel, stride) of a block from its width and stride."""


class ResNet:
    """The pieces that all networks of the paper are put together from, on one builder."""

    def __init__(self, name: str, *, shortcut: Shortcut | None, batch_norm: bool, conv_bias: bool, size: int = 224):
        self.net = Builder(name, (1, 3, size, size))
        self.shortcut, self.batch_norm, self.conv_bias = shortcut, batch_norm, conv_bias
        self.channels = 3

    def conv(self, width: int, kernel: int, stride: int, name: str, norm: str) -> None:
        """A convolution that keeps the size but for its stride, and its batch norm."""
        self.net.add(Conv2d(width, kernel, stride=stride, padding=kernel // 2, bias=self.conv_bias), name)
        if self.batch_norm:
            self.net.add(BatchNorm2d(), norm)

    def block(self, convolutions: list[tuple[int, int, int]]) -> None:
        """Convolutions (width, kernel, stride) with ReLUs between, and a shortcut around them unless plain."""
        start, channels = self.net.last, self.channels
        for index, (width, kernel, stride) in enumerate(convolutions, start=1):
            self.conv(width, kernel, stride, f"conv{index}", f"bn{index}")
            if index < len(convolutions):
                self.net.add(ReLU(inplace=True), f"relu{index}")
        self.channels = convolutions[-1][0]
        if self.shortcut:
            end = self.net.last
            self.net.last = start
            self._shortcut(self.channels - channels, max(stride for _, _, stride in convolutions))
            self.net.add(Add(inplace=True), "add", after=(end, self.net.last))
        self.net.add(ReLU(inplace=True), f"relu{len(convolutions)}")

    def _shortcut(self, more_channels: int, stride: int) -> None:
        """Section 3.3: A, identity with zero channels; B, projection where the size changes; C, always projection."""
        resized = more_channels > 0 or stride > 1
        if self.shortcut == "A":
            if stride > 1:
                self.net.add(Subsample(stride), "subsample")
            if more_channels:
                self.net.add(PadChannels(more_channels), "pad")
        elif resized or self.shortcut == "C":
            self.conv(self.channels, 1, stride, "downsample.0", "downsample.1")

    def stem(self, width: int, kernel: int, stride: int) -> None:
        """The first convolution."""
        self.conv(width, kernel, stride, "conv1", "bn1")
        self.net.add(ReLU(inplace=True), "relu")
        self.channels = width

    def stages(self, widths: Sequence[int], repeats: Sequence[int], block: Block) -> None:
        """Blocks of each width, the first of each stage but the first with stride 2."""
        for stage, (width, count) in enumerate(zip(widths, repeats, strict=True), start=1):
            with self.net.block(f"layer{stage}"):
                for index in range(count):
                    with self.net.block(str(index)):
                        self.block(block(width, 2 if stage > 1 and index == 0 else 1))

    def head(self, classes: int) -> Network:
        """The mean of each map, and the fully connected layer."""
        self.net.add(AdaptiveAvgPool2d(1), "avgpool")
        self.net.add(Flatten(), "flatten")
        self.net.add(Linear(classes), "fc")
        return self.net.network()

    def network(self, repeats: tuple[int, ...], block: Block, classes: int) -> Network:
        """Stem, four stages of blocks, head."""
        self.stem(64, 7, 2)
        self.net.add(MaxPool2d(3, stride=2, padding=1), "maxpool")
        self.stages(WIDTHS, repeats, block)
        return self.head(classes)


def basic(width: int, stride: int) -> list[tuple[int, int, int]]:
    """Two 3×3 convolutions."""
    return [(width, 3, stride), (width, 3, 1)]


def _bottleneck(stride_on: StrideOn) -> Block:
    def block(width: int, stride: int) -> list[tuple[int, int, int]]:
        first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
        return [(width, 1, first), (width, 3, second), (4 * width, 1, 1)]

    return block


def _torchvision(choices: Mapping[str, Any], model: str) -> Reference | None:
    ordinary = choices["shortcut"] == "B" and choices["batch_norm"] and not choices["conv_bias"]
    if not ordinary or choices.get("stride_on", "3x3") != "3x3":
        return None
    return Reference(model, choices, {"num_classes": choices["classes"]})


def _basic_resnet(name: str, repeats: tuple[int, ...]) -> Callable[..., Network]:
    @entry(name, family="ResNet", year=2015, paper=PAPER, torchvision=lambda c: _torchvision(c, name))
    def recipe(
        *, shortcut: Shortcut = "B", batch_norm: bool = True, conv_bias: bool = False, classes: int = 1000
    ) -> Network:
        parts = ResNet(name, shortcut=shortcut, batch_norm=batch_norm, conv_bias=conv_bias)
        return parts.network(repeats, basic, classes)

    recipe.__doc__ = f"ResNet-{name[6:]}: residual blocks of two 3×3 convolutions."
    return recipe


def _plain(name: str, repeats: tuple[int, ...]) -> Callable[..., Network]:
    @entry(name, family="ResNet", year=2015, paper=PAPER)
    def recipe(*, batch_norm: bool = True, conv_bias: bool = False, classes: int = 1000) -> Network:
        parts = ResNet(name, shortcut=None, batch_norm=batch_norm, conv_bias=conv_bias)
        return parts.network(repeats, basic, classes)

    recipe.__doc__ = f"The plain twin of ResNet-{name[5:]}: the same layers without shortcuts."
    return recipe


def _bottleneck_resnet(name: str, repeats: tuple[int, ...]) -> Callable[..., Network]:
    @entry(name, family="ResNet", year=2015, paper=PAPER, torchvision=lambda c: _torchvision(c, name))
    def recipe(
        *,
        shortcut: Shortcut = "B",
        stride_on: StrideOn = "3x3",
        batch_norm: bool = True,
        conv_bias: bool = False,
        classes: int = 1000,
    ) -> Network:
        parts = ResNet(name, shortcut=shortcut, batch_norm=batch_norm, conv_bias=conv_bias)
        return parts.network(repeats, _bottleneck(stride_on), classes)

    recipe.__doc__ = f"ResNet-{name[6:]}: bottlenecks of 1×1, 3×3, 1×1; the paper strides on the first 1×1."
    return recipe


resnet18 = _basic_resnet("resnet18", (2, 2, 2, 2))
resnet34 = _basic_resnet("resnet34", (3, 4, 6, 3))
resnet50 = _bottleneck_resnet("resnet50", (3, 4, 6, 3))
resnet101 = _bottleneck_resnet("resnet101", (3, 4, 23, 3))
resnet152 = _bottleneck_resnet("resnet152", (3, 8, 36, 3))
plain18 = _plain("plain18", (2, 2, 2, 2))
plain34 = _plain("plain34", (3, 4, 6, 3))
