"""What was published about GoogLeNet.

Table 1 of the paper prints, for each inception module, its filters, its parameters and its operations; not all of them
agree. What contradicts the filters is set beside what they give.
"""

from __future__ import annotations

from typing import NamedTuple

from archcalc.analysis import Report
from archcalc.working import Worked, summand, worked
from archcalc.zoo.figures import (
    Amount,
    Cause,
    Conflict,
    Figure,
    of_block,
    of_kind,
    shape_of,
    table,
    torchvision,
    total,
    widths,
)

TABLE = "Szegedy et al. 2015, table 1"
K = 1024
BRANCHES = ("conv1x1", "reduce3x3", "conv3x3", "reduce5x5", "conv5x5", "pool_proj")


class Module(NamedTuple):
    """A row of Table 1 as printed: what flows in and out, filters, parameters and operations."""

    before: str
    output: str
    filters: str
    params: str
    operations: str

    def weights(self) -> Worked:
        """Weights by the printed filters and the printed maps of what flows in."""
        one, reduce3, three, reduce5, five, projection = map(int, self.filters.split(", "))
        maps = int(self.before.split("×")[2])
        ones = worked(one) + reduce3 + reduce5 + projection
        return worked(maps) * ones + worked(9) * reduce3 * three + worked(25) * reduce5 * five

    def exchanged(self, other: Module, branches: tuple[str, ...]) -> Worked:
        """Weights if these branches had the filters that the other row prints."""
        own, others = self.filters.split(", "), other.filters.split(", ")
        filters = (others[i] if branch in branches else own[i] for i, branch in enumerate(BRANCHES))
        return self._replace(filters=", ".join(filters)).weights()

    def macs(self) -> Worked:
        """MACs by these weights, one for each at every position of the printed output."""
        height, width, _ = map(int, self.output.split("×"))
        return worked(height) * width * summand(self.weights().value)


MODULES = {
    "3a": Module("28×28×192", "28×28×256", "64, 96, 128, 16, 32, 32", "159K", "128M"),
    "3b": Module("28×28×256", "28×28×480", "128, 128, 192, 32, 96, 64", "380K", "304M"),
    "4a": Module("14×14×480", "14×14×512", "192, 96, 208, 16, 48, 64", "364K", "73M"),
    "4b": Module("14×14×512", "14×14×512", "160, 112, 224, 24, 64, 64", "437K", "88M"),
    "4c": Module("14×14×512", "14×14×512", "128, 128, 256, 24, 64, 64", "463K", "100M"),
    "4d": Module("14×14×512", "14×14×528", "112, 144, 288, 32, 64, 64", "580K", "119M"),
    "4e": Module("14×14×528", "14×14×832", "256, 160, 320, 32, 128, 128", "840K", "170M"),
    "5a": Module("7×7×832", "7×7×832", "256, 160, 320, 32, 128, 128", "1072K", "54M"),
    "5b": Module("7×7×832", "7×7×1024", "384, 192, 384, 48, 128, 128", "1388K", "71M"),
}
OTHER_PARAMS = {"conv1": "2.7K", "conv2": "112K", "linear": "1000K"}
OTHER_OPERATIONS = {"conv1": "34M", "conv2": "360M", "linear": "1M"}
FILTERS = "the filters in its row"


STAGES = (
    ("reduce2", "conv2"),
    ("inception3a", "inception3b"),
    ("inception4a", "inception4b", "inception4c", "inception4d", "inception4e"),
    ("inception5a", "inception5b"),
)
"""What lies behind each pooling of GoogLeNet."""


def with_biases(name: str) -> Amount:
    """Weights and biases of a module."""
    weights, biases = (of_block(f"inception{name}", count) for count in ("weights", "biases"))
    return lambda report: summand(weights(report)) + summand(biases(report))


def separable(report: Report) -> Worked:
    """Weights of conv1 as 8 filters of 7×7 on each colour and a 1×1 convolution, without biases."""
    colours, maps = report.input[1], report["conv1"].output[1]
    return worked(worked(7) * 7 * colours * 8 + worked(8 * colours) * maps)


def separable_params(report: Report) -> Worked:
    """These weights and a bias for each map."""
    return worked(separable(report) + report["conv1"].output[1])


def separable_macs(report: Report) -> Worked:
    """Each of these weights at every position."""
    _, _, height, width = report["conv1"].output
    return worked(worked(height) * width * separable(report))


def exchange(name: str, other: str) -> Cause:
    """Parameters of a module whose 1×1 filters and those of its 5×5 reduction are another row's."""
    return Cause(
        f"its filters of 1×1 and of the 5×5 reduction exchanged with those of {other}",
        lambda _: MODULES[name].exchanged(MODULES[other], ("conv1x1", "reduce5x5")),
    )


def at_positions(name: str) -> Worked:
    """MACs of a module by the parameters printed in its row, one for each at every position."""
    module = MODULES[name]
    height, width, _ = map(int, module.output.split("×"))
    return worked(height) * width * summand(int(module.params[:-1]) * K)


def second(count: str) -> Amount:
    """A count of the 1×1 and the 3×3 convolution between the first two poolings."""
    return lambda report: sum(getattr(report[name], count) for name in ("reduce2", "conv2"))


def column(printed: dict[str, str], unit: int) -> Worked:
    """The sum of a column as printed."""
    first, *rest = (summand(int(float(text[:-1]) * unit)) for text in printed.values())
    return sum(rest, start=first)


def pooled_down(first: int) -> Amount:
    """MACs where from this pooling on the half windows at the end are cut off."""

    def macs(report: Report) -> Worked:
        side = int(report["conv1"].output[2])
        parts = worked(side) * side * summand(report["conv1"].weights)
        for pooling, names in enumerate(STAGES):
            side = (side - 3) // 2 + 1 if pooling >= first else side // 2
            weights = sum(of_block(name, "weights")(report) for name in names)
            parts += worked(side) * side * summand(weights)
        return parts + summand(report["fc"].weights)

    return macs


def without_scales(report: Report) -> Worked:
    """Parameters but for the scales of batch norms."""
    scales = sum(row.weights for row in report if row.kind == "BatchNorm2d")
    return summand(report.total.params) - summand(scales)


PARAMS_COLUMN = OTHER_PARAMS | {name: module.params for name, module in MODULES.items()}
OPERATIONS_COLUMN = OTHER_OPERATIONS | {name: module.operations for name, module in MODULES.items()}
PARAMS_ERRATA: dict[str, Cause | Conflict] = {
    "3b": Cause("its biases counted too", with_biases("3b")),
    "4a": exchange("4a", "4b"),
    "4b": exchange("4b", "4a"),
    **{name: Conflict(FILTERS, MODULES[name].weights) for name in ("4c", "4d", "4e", "5a", "5b")},
}
OPERATIONS_ERRATA = {"5a": Cause("the parameters printed in its row, an erratum", lambda _: at_positions("5a"))}
SEPARABLE = "a separable 7×7 with 8 filters for each colour in place of a dense one"

FIGURES: tuple[Figure, ...] = (
    *table(
        "googlenet",
        TABLE,
        "height, width, maps",
        *(
            (f"output of {name}", module.output, shape_of(f"inception{name}.concat"))
            for name, module in MODULES.items()
        ),
    ),
    *table(
        "googlenet",
        TABLE,
        "maps of 1×1, 3×3 reduction, 3×3, 5×5 reduction, 5×5, projection",
        *(
            (f"filters of {name}", module.filters, widths(*(f"inception{name}.{branch}" for branch in BRANCHES)))
            for name, module in MODULES.items()
        ),
    ),
    *table(
        "googlenet",
        TABLE,
        "no biases; K is 1,024",
        (
            "parameters of conv1",
            OTHER_PARAMS["conv1"],
            lambda report: report["conv1"].weights,
            Cause(f"{SEPARABLE}, its biases too", separable_params),
        ),
        ("parameters of conv2", OTHER_PARAMS["conv2"], second("weights")),
        *(
            (f"parameters of {name}", module.params, of_block(f"inception{name}", "weights"), PARAMS_ERRATA.get(name))
            for name, module in MODULES.items()
        ),
        ("parameters of linear", OTHER_PARAMS["linear"], lambda report: report["fc"].weights),
        kilo=K,
        whole=True,
    ),
    *table(
        "googlenet",
        TABLE,
        "multiply-adds",
        (
            "operations of conv1",
            OTHER_OPERATIONS["conv1"],
            lambda report: report["conv1"].macs,
            Cause(SEPARABLE, separable_macs),
        ),
        ("operations of conv2", OTHER_OPERATIONS["conv2"], second("macs")),
        *(
            (
                f"operations of {name}",
                module.operations,
                of_block(f"inception{name}", "macs"),
                OPERATIONS_ERRATA.get(name),
            )
            for name, module in MODULES.items()
        ),
        ("operations of linear", OTHER_OPERATIONS["linear"], lambda report: report["fc"].macs),
        whole=True,
    ),
    *table(
        "googlenet",
        f"{TABLE}, column added up",
        "multiply-adds",
        (
            "operations",
            "1502M",
            total("macs"),
            Cause("the column as printed, with its errata", lambda _: column(OPERATIONS_COLUMN, 10**6)),
        ),
    ),
    *table(
        "googlenet",
        "Szegedy et al. 2015, section 1",
        "multiply-adds",
        ("operations", "1.5 billion", total("macs")),
    ),
    *table(
        "googlenet",
        "Howard et al. 2017, MobileNets, table 8",
        "weights and biases",
        (
            "parameters",
            "6.8 million",
            total("params"),
            Cause(
                "the column of the paper's table 1 added up, K being read as 1,000",
                lambda _: column(PARAMS_COLUMN, 1000),
            ),
        ),
    ),
    *table(
        "googlenet",
        "Howard et al. 2017, MobileNets, table 8",
        "multiply-adds",
        (
            "MACs",
            "1550 million",
            total("macs"),
            Cause("maps of 6 a side at the end, as a last pooling that does not round up leaves", pooled_down(3)),
        ),
    ),
    *table(
        "googlenet",
        "Sze et al. 2017, table II",
        "no biases",
        ("weights", "7M", total("weights")),
        ("weights of convolutions", "6.0M", of_kind("Conv2d", "weights")),
        (
            "MACs",
            "1.43G",
            total("macs"),
            Cause("maps of 55, 27, 13, 6 a side, as poolings that do not round up leave", pooled_down(0)),
        ),
    ),
    *torchvision({"googlenet-torchvision": ("6,624,904", "1.498G")}),
    *table(
        "minigooglenet",
        "Zhang et al. 2017, Understanding Deep Learning, table 1",
        "weights and a bias or shift for each map; no scales of batch norm",
        ("parameters", "1,649,402", without_scales),
    ),
    *table(
        "minigooglenet",
        "Zhang et al. 2017, Understanding Deep Learning, table 1",
        "weights and biases",
        ("parameters", "1,649,402", total("params")),
        choices={"batch_norm": False},
    ),
)
