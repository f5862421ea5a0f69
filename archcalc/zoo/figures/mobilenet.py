"""What was published about MobileNets V1 and V2."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import floor

from archcalc.analysis import Report
from archcalc.working import summand
from archcalc.zoo.figures import (
    Amount,
    Cause,
    Count,
    Figure,
    keras,
    of_block,
    of_kind,
    report,
    table,
    torchvision,
    total,
)

PAPER = "Howard et al. 2017, MobileNets"
WIDTHS = {
    1.0: ("569 million", "4.2 million"),
    0.75: ("325 million", "2.6 million"),
    0.5: ("149 million", "1.3 million"),
}
WIDTHS |= {0.25: ("41 million", "0.5 million")}
RESOLUTIONS = {224: "569 million", 192: "418 million", 160: "290 million", 128: "186 million"}
SHALLOW = ("block8", "block9", "block10", "block11", "block12")


def without(kind: str, count: str) -> Amount:
    """A count of all layers but those of one kind."""
    return lambda network: summand(total(count)(network)) - summand(of_kind(kind, count)(network))


def parts(network: Report) -> dict[str, list[str]]:
    """Layers with weights other than batch norms, as Table 2 groups them."""
    named = [row.name for row in network if row.kind in ("Conv2d", "Linear")]
    return {
        "1×1": [name for name in named if "pointwise" in name],
        "depthwise 3×3": [name for name in named if "depthwise" in name],
        "3×3": [name for name in named if name == "conv1"],
        "fully connected": [name for name in named if name == "fc"],
    }


def share(part: str, count: str) -> Callable[[Report], Fraction]:
    """What share of a count these layers have, batch norms and biases left out."""

    def of_all(network: Report) -> Fraction:
        sums = {
            name: sum(getattr(network[layer], count) for layer in layers) for name, layers in parts(network).items()
        }
        return Fraction(sums[part], sum(sums.values()))

    return of_all


def exchanged(part: str, count: str) -> Amount:
    """A share in percent with two decimals, its last two digits exchanged: 1.91 gives 1.19."""

    def swapped(network: Report) -> Fraction:
        hundredths = floor(share(part, count)(network) * 10**4 + Fraction(1, 2))
        return Fraction(hundredths // 100 * 100 + hundredths % 10 * 10 + hundredths // 10 % 10, 10**4)

    return swapped


def shallow(count: str) -> Count:
    """A count without the five alike layers of 14×14×512."""
    return lambda network: total(count)(network) - sum(of_block(name, count)(network) for name in SHALLOW)


def of_another(network: str, amount: Count) -> Amount:
    """How many times what this network has another one has."""
    return lambda own: Fraction(amount(report(network)), amount(own))


FIGURES: tuple[Figure, ...] = (
    *(
        figure
        for part, macs, params in (
            ("1×1", "94.86%", "74.59%"),
            ("depthwise 3×3", "3.06%", "1.06%"),
            ("3×3", "1.19%", "0.02%"),
            ("fully connected", "0.18%", "24.33%"),
        )
        for figure in table(
            "mobilenet-v1",
            f"{PAPER}, table 2",
            "share of all, batch norms and biases left out",
            (
                f"MACs of {part}",
                macs,
                share(part, "macs"),
                Cause("two digits of 1.91 exchanged", exchanged(part, "macs")) if part == "3×3" else None,
            ),
            (f"weights of {part}", params, share(part, "weights")),
        )
    ),
    *table(
        "mobilenet-v1",
        f"{PAPER}, table 4",
        "full 3×3 convolutions",
        ("MACs", "4866 million", total("macs"), Cause("no fully connected layer", without("Linear", "macs"))),
        ("parameters", "29.3 million", total("params")),
        choices={"separable": False},
        whole=True,
    ),
    *table(
        "mobilenet-v1",
        f"{PAPER}, table 5",
        "without five layers of 14×14×512",
        ("MACs", "307 million", shallow("macs")),
        ("parameters", "2.9 million", shallow("params")),
        whole=True,
    ),
    *(
        figure
        for width, (macs, params) in WIDTHS.items()
        for figure in table(
            "mobilenet-v1",
            f"{PAPER}, table 6",
            "batch norm too",
            ("MACs", macs, total("macs")),
            ("parameters", params, total("params")),
            choices={"width": width},
            whole=True,
        )
    ),
    *(
        figure
        for resolution, macs in RESOLUTIONS.items()
        for figure in table(
            "mobilenet-v1",
            f"{PAPER}, table 7",
            "",
            ("MACs", macs, total("macs")),
            choices={"resolution": resolution},
            whole=True,
        )
    ),
    *table(
        "mobilenet-v1",
        f"{PAPER}, section 4.3",
        "convolutions of VGG-16 only",
        ("times less computation than VGG-16", "27", of_another("vgg16", of_kind("Conv2d", "macs"))),
    ),
    *table(
        "mobilenet-v1",
        f"{PAPER}, section 4.3",
        "weights and biases",
        ("times smaller than VGG-16", "32", of_another("vgg16", total("params"))),
    ),
    *table(
        "mobilenet-v1",
        f"{PAPER}, section 4.3 and table 9",
        "batch norm too",
        ("MACs", "76 million", total("macs")),
        (
            "parameters",
            "1.32 million",
            total("params"),
            Cause("batch norm left out", without("BatchNorm2d", "params")),
        ),
        ("times smaller than AlexNet", "45", of_another("alexnet", total("params"))),
        ("times less computation than AlexNet", "9.4", of_another("alexnet", total("macs"))),
        choices={"width": 0.5, "resolution": 160},
    ),
    *table(
        "mobilenet-v2",
        "Sandler et al. 2018, table 4",
        "batch norm too",
        ("MACs", "300 million", total("macs")),
        (
            "parameters",
            "3.4 million",
            total("params"),
            Cause("batch norm left out, and cut off", without("BatchNorm2d", "params")),
        ),
    ),
    *keras({"mobilenet-v1": "4,253,864", "mobilenet-v2": "3,538,984"}),
    *torchvision({"mobilenet-v2": ("3,504,872", "0.301G")}),
)
