"""MobileNet V1, Howard et al. 2017, and V2, Sandler et al. 2018."""

from __future__ import annotations

from archcalc.graph import Builder, Network
from archcalc.layers import AdaptiveAvgPool2d, Add, BatchNorm2d, Conv2d, Dropout, Flatten, Layer, Linear, ReLU, ReLU6
from archcalc.zoo.registry import Reference, entry

# Howard et al., Table 1: channels and stride of each depthwise separable convolution. The last is printed "s2", but
# keeps the 7×7 maps of the row below it
V1 = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)

# Sandler et al., Table 2: expansion factor t, channels c, repeats n, stride s of the first
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class _MobileNet:
    """Convolutions with batch norm on one builder, which knows how many channels flow out of the last."""

    def __init__(self, name: str, resolution: int = 224):
        self.net = Builder(name, (1, 3, resolution, resolution))
        self.channels = 3

    def conv(
        self,
        name: str,
        width: int | None = None,
        kernel: int = 1,
        stride: int = 1,
        activation: Layer | None = None,
    ) -> None:
        """A convolution, depthwise where no width is given, its batch norm and its activation."""
        groups = 1 if width else self.channels
        self.channels = width or self.channels
        layer = Conv2d(self.channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
        self.net.add(layer, name)
        self.net.add(BatchNorm2d(), f"bn_{name}")
        if activation:
            self.net.add(activation, f"{activation.kind.lower()}_{name}")

    def head(self, classes: int, *, dropout: float = 0.0) -> Network:
        """The mean of each map, and the classifier."""
        self.net.add(AdaptiveAvgPool2d(1), "avgpool")
        self.net.add(Flatten(), "flatten")
        if dropout:
            self.net.add(Dropout(dropout), "dropout")
        self.net.add(Linear(classes), "fc")
        return self.net.network()


@entry(
    "mobilenet-v1",
    family="MobileNet",
    year=2017,
    paper="Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision, arXiv 1704.04861",
)
def mobilenet_v1(*, width: float = 1.0, resolution: int = 224, separable: bool = True, classes: int = 1000) -> Network:
    """MobileNet V1, depthwise separable convolutions; the paper's multipliers are `width` and `resolution` / 224.

    With `separable=False` each depthwise separable convolution is a full 3×3 convolution (the paper's Table 4).
    """
    parts = _MobileNet("mobilenet-v1", resolution)

    def scaled(channels: int) -> int:
        return max(8, int(channels * width))

    parts.conv("conv1", scaled(32), 3, 2, ReLU(inplace=True))
    for index, (channels, stride) in enumerate(V1, start=2):
        with parts.net.block(f"block{index}"):
            if separable:
                parts.conv("depthwise", None, 3, stride, ReLU(inplace=True))
                parts.conv("pointwise", scaled(channels), activation=ReLU(inplace=True))
            else:
                parts.conv("conv", scaled(channels), 3, stride, ReLU(inplace=True))
    return parts.head(classes)


@entry(
    "mobilenet-v2",
    family="MobileNet",
    year=2018,
    paper="Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, arXiv 1801.04381",
    torchvision=lambda c: (
        Reference(
            "mobilenet_v2",
            c,
            {"num_classes": c["classes"], "width_mult": c["width"]},
            functional=frozenset({"AdaptiveAvgPool2d"}),
        )
        if c["resolution"] == 224
        else None
    ),
)
def mobilenet_v2(*, width: float = 1.0, resolution: int = 224, classes: int = 1000) -> Network:
    """MobileNet V2: narrow maps between blocks, expanded and filtered within them; widths are multiples of 8."""
    parts = _MobileNet("mobilenet-v2", resolution)
    parts.conv("conv1", _divisible(32 * width), 3, 2, ReLU6(inplace=True))
    blocks = ((t, c, s if i == 0 else 1) for t, c, n, s in V2 for i in range(n))
    for index, (expansion, channels, stride) in enumerate(blocks, start=1):
        start, before = parts.net.last, parts.channels
        with parts.net.block(f"block{index}"):
            if expansion > 1:
                parts.conv("expand", before * expansion, activation=ReLU6(inplace=True))
            parts.conv("depthwise", None, 3, stride, ReLU6(inplace=True))
            parts.conv("project", _divisible(channels * width))
            if stride == 1 and parts.channels == before:
                parts.net.add(Add(), "add", after=(start, parts.net.last))
    parts.conv("conv_last", _divisible(1280 * max(1.0, width)), activation=ReLU6(inplace=True))
    return parts.head(classes, dropout=0.2)


def _divisible(width: float, by: int = 8) -> int:
    """The nearest multiple, at least one, that is no more than a tenth below (torchvision's `_make_divisible`)."""
    nearest = max(by, int(width + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * width else nearest
