"""What was published about vision transformers."""

from archcalc.working import summand
from archcalc.zoo.figures import Figure, table, torchvision

FIGURES: tuple[Figure, ...] = (
    *table(
        "vit-b-16",
        "Dosovitskiy et al. 2021, table 1",
        "without the classifier",
        (
            "parameters",
            "86M",
            lambda report: summand(report.total.params) - summand(report["head"].params),
        ),
    ),
    *torchvision({"vit-b-16": ("86,567,656", "17.564G")}),
)
