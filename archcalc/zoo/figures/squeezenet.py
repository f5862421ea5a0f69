"""What was published about SqueezeNet."""

from __future__ import annotations

from fractions import Fraction

from archcalc.working import summand, worked
from archcalc.zoo.figures import Cause, Figure, of_block, report, table, torchvision, total

PAPER = "Iandola et al. 2016"
PARAMS = {"conv1": "14,208", "fire2": "11,920", "fire3": "12,432", "fire4": "45,344", "fire5": "49,440"}
PARAMS |= {"fire6": "104,880", "fire7": "111,024", "fire8": "188,992", "fire9": "197,184", "conv10": "513,000"}

FIGURES: tuple[Figure, ...] = (
    *table(
        "squeezenet1-0",
        f"{PAPER}, table 1",
        "weights and biases",
        *((f"parameters of {name}", params, of_block(name, "params")) for name, params in PARAMS.items()),
        ("parameters", "1,248,424", total("params")),
    ),
    *table(
        "squeezenet1-0",
        f"{PAPER}, table 2",
        "4 bytes a parameter, MB are 2^20 bytes",
        ("bytes", "4.8MB", lambda network: worked(4) * summand(network.total.params)),
        kilo=1024,
    ),
    *table(
        "squeezenet1-0",
        f"{PAPER}, abstract",
        "weights and biases",
        (
            "times smaller than AlexNet",
            "50",
            lambda network: Fraction(report("alexnet").total.params, network.total.params),
        ),
    ),
    *table(
        "squeezenet1-0",
        "Howard et al. 2017, MobileNets, table 9",
        "multiply-adds, 227×227 input",
        (
            "MACs",
            "1700 million",
            total("macs"),
            Cause("two operations counted for each", lambda network: worked(2) * summand(network.total.macs)),
        ),
        input=(1, 3, 227, 227),
    ),
    *table(
        "squeezenet1-0",
        "Howard et al. 2017, MobileNets, table 9",
        "weights and biases",
        ("parameters", "1.25 million", total("params")),
    ),
    *torchvision({"squeezenet1-0": ("1,248,424", "0.819G"), "squeezenet1-1": ("1,235,496", "0.349G")}),
)
