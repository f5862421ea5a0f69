"""What was published about residual networks and their plain twins."""

from __future__ import annotations

from fractions import Fraction

from archcalc.analysis import Report
from archcalc.working import Worked, summand
from archcalc.zoo.figures import Figure, keras, of_kind, report, table, torchvision, total

TABLE = "He et al. 2015, table 1"
SURVEY = "Sze et al. 2017, section 3.2"
ON_1X1 = {"stride_on": "1x1"}


def of_vgg19(plain: Report) -> Fraction:
    """MACs as a share of VGG-19's."""
    return Fraction(plain.total.macs, report("vgg19").total.macs)


def projections(network: Report) -> int:
    """How many shortcuts are convolutions."""
    return sum(row.kind == "Conv2d" and "downsample" in row.name for row in network)


def more_projections(network: Report) -> Worked:
    """How many more shortcuts are convolutions than with option B."""
    return summand(projections(network)) - summand(projections(report("resnet34", shortcut="B")))


FIGURES: tuple[Figure, ...] = (
    *table("resnet18", TABLE, "multiply-adds", ("FLOPs", "1.8 billion", total("macs")), choices={"shortcut": "A"}),
    *table("resnet34", TABLE, "multiply-adds", ("FLOPs", "3.6 billion", total("macs")), choices={"shortcut": "A"}),
    *table("resnet50", TABLE, "multiply-adds", ("FLOPs", "3.8 billion", total("macs")), choices=ON_1X1),
    *table("resnet101", TABLE, "multiply-adds", ("FLOPs", "7.6 billion", total("macs")), choices=ON_1X1),
    *table("resnet152", TABLE, "multiply-adds", ("FLOPs", "11.3 billion", total("macs")), choices=ON_1X1),
    *table(
        "plain34",
        "He et al. 2015, section 3.3 and figure 3",
        "multiply-adds",
        ("FLOPs", "3.6 billion", total("macs")),
        ("FLOPs, of VGG-19's", "18%", of_vgg19),
    ),
    *table(
        "resnet34",
        "He et al. 2015, figure 3",
        "multiply-adds",
        ("FLOPs", "3.6 billion", total("macs")),
        choices={"shortcut": "A"},
    ),
    *table(
        "resnet34",
        "He et al. 2015, section 4.1",
        "shortcuts with weights, more than in option B",
        ("projections", "thirteen", more_projections),
        choices={"shortcut": "C"},
    ),
    *table(
        "resnet50",
        SURVEY,
        "224×224 input",
        ("weights", "25.5M", total("weights")),
        ("MACs", "3.9G", total("macs")),
        choices=ON_1X1,
    ),
    *table(
        "resnet50",
        "Sze et al. 2017, table II",
        "224×224 input",
        ("weights of convolutions", "23.5M", of_kind("Conv2d", "weights")),
        ("MACs of convolutions", "3.86G", of_kind("Conv2d", "macs")),
        ("weights of the fully connected layer", "2M", of_kind("Linear", "weights")),
        ("MACs of the fully connected layer", "2M", of_kind("Linear", "macs")),
        choices=ON_1X1,
    ),
    *table(
        "resnet152",
        SURVEY,
        "224×224 input",
        ("weights", "60M", total("weights")),
        ("MACs", "11.3G", total("macs")),
        choices=ON_1X1,
    ),
    *keras({"resnet50": "25,636,712", "resnet101": "44,707,176", "resnet152": "60,419,944"}, conv_bias=True),
    *torchvision(
        {
            "resnet18": ("11,689,512", "1.814G"),
            "resnet34": ("21,797,672", "3.664G"),
            "resnet50": ("25,557,032", "4.089G"),
            "resnet101": ("44,549,160", "7.801G"),
            "resnet152": ("60,192,808", "11.514G"),
        },
    ),
)
