"""What was published about OverFeat."""

from archcalc.zoo.figures import Figure, table, total

FIGURES: tuple[Figure, ...] = table(
    "overfeat",
    "Sze et al. 2017, section 3.2",
    "the fast network, 231×231 input",
    ("weights", "146M", total("weights")),
    ("MACs", "2.8G", total("macs")),
)
