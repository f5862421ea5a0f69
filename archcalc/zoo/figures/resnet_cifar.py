"""What was published about residual networks for CIFAR-10."""

from __future__ import annotations

from archcalc.analysis import Report, analyze
from archcalc.graph import Builder
from archcalc.layers import AdaptiveAvgPool2d, Add, BatchNorm2d, Conv2d, Flatten, Linear, ReLU
from archcalc.working import Worked, summand
from archcalc.zoo.figures import Cause, Figure, of_kind, table, total

PRINTED = {
    **{"resnet20": "0.27M", "resnet32": "0.46M", "resnet44": "0.66M", "resnet56": "0.85M"},
    **{"resnet110": "1.7M", "resnet1202": "19.4M"},
}


def preactivation1001() -> Report:
    """The 1001-layer pre-activation network of He et al. 2016: 3 times 111 bottlenecks."""
    net = Builder("preactivation1001", (1, 3, 32, 32))
    net.add(Conv2d(16, 3, padding=1, bias=False))
    channels = 16
    for stage, width in enumerate((16, 32, 64)):
        for index in range(111):
            stride = 2 if stage and not index else 1
            net.add(BatchNorm2d())
            shortcut = start = net.add(ReLU())
            if channels != 4 * width:
                shortcut = net.add(Conv2d(4 * width, 1, stride=stride, bias=False))
            net.last = start
            net.add(Conv2d(width, 1, stride=stride, bias=False))
            for wide, kernel in ((width, 3), (4 * width, 1)):
                net.add(BatchNorm2d())
                net.add(ReLU())
                net.add(Conv2d(wide, kernel, padding=kernel // 2, bias=False))
            net.add(Add(), after=(net.last, shortcut))
            channels = 4 * width
    net.add(BatchNorm2d())
    net.add(ReLU())
    net.add(AdaptiveAvgPool2d(1))
    net.add(Flatten())
    net.add(Linear(10))
    return analyze(net.network())


def of_preactivation1001(_: Report) -> Worked:
    """Parameters of its convolutions and of its classifier."""
    report = preactivation1001()
    return summand(of_kind("Conv2d", "params")(report)) + summand(of_kind("Linear", "params")(report))


FIGURES: tuple[Figure, ...] = (
    *(
        figure
        for name, printed in PRINTED.items()
        for figure in table(
            name,
            "He et al. 2015, table 6",
            "identity shortcuts, batch norm too",
            ("parameters", printed, total("params")),
        )
    ),
    *table(
        "resnet1202",
        "Huang et al. 2017, DenseNet, table 2",
        "with stochastic depth",
        (
            "parameters",
            "10.2M",
            total("params"),
            Cause("the 1001-layer network's, in the same table, without batch norm", of_preactivation1001),
        ),
    ),
)
