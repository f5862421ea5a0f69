"""LeNet-5: as published, as it is taught on CIFAR-10, and Caffe's."""

from __future__ import annotations

from archcalc.graph import Builder, Network
from archcalc.layers import (
    RBF,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    TableConv2d,
    Tanh,
)
from archcalc.zoo.registry import entry

PAPER = "LeCun, Bottou, Bengio & Haffner, Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998"

# Table I: the first six maps see three neighbours, then come six of four, three of four with a gap, and one of all
CONNECTIONS = (
    *(tuple(sorted((first + i) % 6 for i in range(3))) for first in range(6)),
    *(tuple(sorted((first + i) % 6 for i in range(4))) for first in range(6)),
    *(tuple(sorted((first + i) % 6 for i in (0, 1, 3, 4))) for first in range(3)),
    tuple(range(6)),
)


@entry("lenet5", family="LeNet", year=1998, paper=PAPER)
def lenet5(*, classes: int = 10) -> Network:
    """LeNet-5 as published: trained subsampling, the partial connections of C3, distances to fixed centres at the end.

    Subsampling adds four inputs, times a coefficient, plus a bias: here their mean and a depthwise 1×1 convolution. The
    paper's 1.7159·tanh(2/3·a) is a tanh, its factors being taken into the weights. The 84 numbers of each class's
    centre are not trained: they are buffers.
    """
    net = Builder("lenet5", (1, 1, 32, 32))

    def layer(name: str, kind: Layer) -> None:
        net.add(kind, name)
        net.add(Tanh(), f"tanh_{name}")

    def subsampling(name: str, maps: int) -> None:
        with net.block(name):
            net.add(AvgPool2d(2), "mean")
            net.add(Conv2d(maps, 1, groups=maps), "scale")
            net.add(Tanh(), "tanh")

    first = Conv2d(6, 5)
    layer("c1", first)
    subsampling("s2", first.out_channels)
    layer("c3", TableConv2d(CONNECTIONS, 5))
    subsampling("s4", len(CONNECTIONS))
    layer("c5", Conv2d(120, 5))
    net.add(Flatten(), "flatten")
    layer("f6", Linear(84))
    net.add(RBF(classes), "output")
    return net.network()


@entry("lenet5-cifar10", family="LeNet", year=1998, paper=PAPER)
def lenet5_cifar10(*, batch_norm: bool = False, classes: int = 10) -> Network:
    """LeNet-5 as it is taught on 32×32×3: max-pooling, ReLU, all maps connected; batch norm after all but the last."""
    net = Builder("lenet5-cifar10", (1, 3, 32, 32))

    def layer(name: str, kind: Conv2d | Linear) -> None:
        net.add(kind, name)
        if batch_norm:
            net.add(BatchNorm2d() if isinstance(kind, Conv2d) else BatchNorm1d(), f"bn_{name}")
        net.add(ReLU(inplace=True), f"relu_{name}")

    for index, width in enumerate((6, 16), start=1):
        layer(f"conv{index}", Conv2d(width, 5))
        net.add(MaxPool2d(2), f"pool{index}")
    net.add(Flatten(), "flatten")
    for index, width in enumerate((120, 84), start=1):
        layer(f"fc{index}", Linear(width))
    net.add(Linear(classes), "fc3")
    return net.network()


@entry("lenet-caffe", family="LeNet", year=2014, paper="Jia et al., Caffe, ACM Multimedia 2014, examples/mnist/lenet")
def lenet_caffe(*, classes: int = 10) -> Network:
    """Caffe's LeNet for MNIST: 20 and 50 maps, 500 units, one ReLU."""
    net = Builder("lenet-caffe", (1, 1, 28, 28))
    for index, width in enumerate((20, 50), start=1):
        net.add(Conv2d(width, 5), f"conv{index}")
        net.add(MaxPool2d(2), f"pool{index}")
    net.add(Flatten(), "flatten")
    net.add(Linear(500), "ip1")
    net.add(ReLU(inplace=True), "relu1")
    net.add(Linear(classes), "ip2")
    return net.network()
