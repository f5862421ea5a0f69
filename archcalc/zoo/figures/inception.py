"""What was published about single inception modules: a lecture's slides and a lab sheet."""

from __future__ import annotations

from archcalc.analysis import Report
from archcalc.working import Worked, summand
from archcalc.zoo.figures import Cause, Figure, shape_of, table, total, widths

SLIDES = "CS231n 2017, lecture 9"
SHEET = "COMS E6998 2020 and DS-UA 301 2022, homework 3, figure 1"
ON_SLIDES = {"size": 28, "bias": False}
REDUCED = {**ON_SLIDES, "reduce3x3": 64, "reduce5x5": 64}


def twice_3x3(report: Report) -> Worked:
    """MACs with those of the 3×3 convolution added once more."""
    return summand(report.total.macs) + summand(report["conv3x3"].macs)


FIGURES: tuple[Figure, ...] = (
    *table(
        "inception-naive",
        SLIDES,
        "multiply-adds, no biases",
        ("convolution operations", "854M", total("macs")),
        choices=ON_SLIDES,
    ),
    *table(
        "inception-naive",
        SLIDES,
        "height, width, maps",
        ("output", "28×28×672", shape_of("concat")),
        choices=ON_SLIDES,
    ),
    *table(
        "inception-reduced",
        SLIDES,
        "multiply-adds, no biases",
        ("convolution operations", "358M", total("macs"), Cause("the 3×3 convolution counted twice", twice_3x3)),
        choices=REDUCED,
    ),
    *table(
        "inception-reduced",
        SLIDES,
        "height, width, maps",
        ("output", "28×28×480", shape_of("concat")),
        choices=REDUCED,
    ),
    *table(
        "inception-naive",
        SHEET,
        "maps of 1×1, 3×3, 5×5",
        ("filters", "128, 192, 96", widths("conv1x1", "conv3x3", "conv5x5")),
    ),
    *table("inception-naive", SHEET, "height, width, maps", ("output", "32×32×672", shape_of("concat"))),
    *table(
        "inception-reduced",
        SHEET,
        "maps of 1×1, 3×3 reduction, 3×3, 5×5 reduction, 5×5, projection",
        (
            "filters",
            "128, 128, 192, 32, 96, 64",
            widths("conv1x1", "reduce3x3", "conv3x3", "reduce5x5", "conv5x5", "pool_proj"),
        ),
    ),
    *table("inception-reduced", SHEET, "height, width, maps", ("output", "32×32×480", shape_of("concat"))),
)
