"""What was published about the VGG networks."""

from __future__ import annotations

from fractions import Fraction

from archcalc.analysis import Report, analyze
from archcalc.graph import Network
from archcalc.layers import Conv2d
from archcalc.working import Worked, summand, worked
from archcalc.zoo.figures import (
    Amount,
    Cause,
    Figure,
    by_layer,
    elements,
    keras,
    of_kind,
    report,
    shape_of,
    table,
    torchvision,
    total,
)

PAPER = "Simonyan & Zisserman 2015"
SLIDES = "CS231n 2017, lecture 9, VGG-16"
CHANNELS = 64
VOLUMES = {
    "input": "224×224×3",
    **dict.fromkeys(("conv1_1", "conv1_2"), "224×224×64"),
    "pool1": "112×112×64",
    **dict.fromkeys(("conv2_1", "conv2_2"), "112×112×128"),
    "pool2": "56×56×128",
    **dict.fromkeys(("conv3_1", "conv3_2", "conv3_3"), "56×56×256"),
    "pool3": "28×28×256",
    **dict.fromkeys(("conv4_1", "conv4_2", "conv4_3"), "28×28×512"),
    "pool4": "14×14×512",
    **dict.fromkeys(("conv5_1", "conv5_2", "conv5_3"), "14×14×512"),
    "pool5": "7×7×512",
}
VECTORS = {"fc6": "4096", "fc7": "4096", "fc8": "1000"}
MEMORY = {
    "input": "150K",
    **dict.fromkeys(("conv1_1", "conv1_2"), "3.2M"),
    "pool1": "800K",
    **dict.fromkeys(("conv2_1", "conv2_2"), "1.6M"),
    "pool2": "400K",
    **dict.fromkeys(("conv3_1", "conv3_2", "conv3_3"), "800K"),
    "pool3": "200K",
    **dict.fromkeys(("conv4_1", "conv4_2", "conv4_3"), "400K"),
    "pool4": "100K",
    **dict.fromkeys(("conv5_1", "conv5_2", "conv5_3"), "100K"),
    "pool5": "25K",
}
WEIGHTS = {
    **{"conv1_1": "1,728", "conv1_2": "36,864", "conv2_1": "73,728", "conv2_2": "147,456", "conv3_1": "294,912"},
    **dict.fromkeys(("conv3_2", "conv3_3"), "589,824"),
    "conv4_1": "1,179,648",
    **dict.fromkeys(("conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3"), "2,359,296"),
    **{"fc6": "102,760,448", "fc7": "16,777,216", "fc8": "4,096,000"},
}


def stack(kernel: int, times: int) -> Report:
    """Convolutions that keep the size and the number of maps, one after the other, without biases."""
    layers = [Conv2d(CHANNELS, kernel, padding=kernel // 2, bias=False)] * times
    return analyze(Network.sequential("stack", (1, CHANNELS, 56, 56), layers))


def per_square(kernel: int, times: int) -> Amount:
    """Weights of a stack, divided by the square of its maps."""
    return lambda _: Fraction(stack(kernel, times).total.weights, CHANNELS**2)


def four_bytes(elements: int) -> Worked:
    """Bytes of as many 32-bit numbers."""
    return worked(4) * summand(elements)


def read_too(report: Report) -> Worked:
    """Outputs of all layers, and once more those that a convolution or a fully connected layer reads."""
    reads = (elements(source) for row in report if row.kind in ("Conv2d", "Linear") for source in row.sources)
    return summand(report.total.activations) + summand(sum(reads))


READ_TOO = "what each layer with weights reads counted once more"

FIGURES: tuple[Figure, ...] = (
    *(
        figure
        for name, configuration, millions in (
            *(("vgg11", "A", 133), ("vgg11-lrn", "A-LRN", 133), ("vgg13", "B", 133)),
            *(("vgg16c", "C", 134), ("vgg16", "D", 138), ("vgg19", "E", 144)),
        )
        for figure in table(
            name,
            f"{PAPER}, table 2",
            "weights and biases",
            (f"parameters of {configuration}", f"{millions} million", total("params")),
        )
    ),
    *table(
        "vgg16",
        f"{PAPER}, section 2.3",
        "as many maps in as out, no biases",
        ("weights of three 3×3", "27C²", per_square(3, 3)),
        ("weights of one 7×7", "49C²", per_square(7, 1)),
        ("how many more", "81%", lambda _: Fraction(stack(7, 1).total.weights, stack(3, 3).total.weights) - 1),
        ("receptive field of three 3×3", "7", lambda _: int(stack(3, 3).rows[-1].receptive_field[0])),  # type: ignore[index]
    ),
    *table(
        "vgg16",
        SLIDES,
        "height, width, maps",
        *((f"volume of {layer}", text, shape_of(layer)) for layer, text in VOLUMES.items()),
    ),
    *table("vgg16", SLIDES, "outputs of the layer", *by_layer("memory of {}", "activations", MEMORY | VECTORS)),
    *table("vgg16", SLIDES, "no biases", *by_layer("weights of {}", "weights", WEIGHTS)),
    *table("vgg16", SLIDES, "no biases", ("weights", "138M", total("weights"))),
    *table(
        "vgg16",
        SLIDES,
        "outputs of all layers",
        ("memory", "24M", total("activations"), Cause(READ_TOO, read_too)),
    ),
    *table(
        "vgg16",
        SLIDES,
        "4 bytes an output",
        (
            "bytes of memory",
            "96MB",
            lambda report: four_bytes(report.total.activations),
            Cause("the 24M printed before it, an erratum", lambda _: four_bytes(24_000_000)),
        ),
    ),
    *table(
        "vgg16",
        "CS231n notes, convolutional networks",
        "4 bytes an output, MB are 2^20 bytes",
        (
            "bytes of memory",
            "93MB",
            lambda report: four_bytes(report.total.activations),
            Cause(READ_TOO, lambda report: four_bytes(int(read_too(report).value))),
        ),
        kilo=1024,
    ),
    *table(
        "vgg16",
        "Sze et al. 2017, section 3.2",
        "224×224 input",
        ("weights", "138M", total("weights")),
        ("MACs", "15.5G", total("macs")),
    ),
    *table(
        "vgg16",
        "Sze et al. 2017, table II",
        "224×224 input",
        ("weights of convolutions", "14.7M", of_kind("Conv2d", "weights")),
        ("MACs of convolutions", "15.3G", of_kind("Conv2d", "macs")),
        ("weights of fully connected layers", "124M", of_kind("Linear", "weights")),
        ("MACs of fully connected layers", "124M", of_kind("Linear", "macs")),
    ),
    *table(
        "vgg16",
        "Chen et al., Eyeriss, ISSCC 2016, abstract",
        "convolutions only, 224×224 input",
        ("MACs of convolutions", "15.3G", of_kind("Conv2d", "macs")),
        ("weights of convolutions", "14.7 million", of_kind("Conv2d", "weights")),
        ("bytes of these weights", "29.4MB", lambda report: 2 * summand(of_kind("Conv2d", "weights")(report))),
        ("MACs of convolutions a pixel", "306k", lambda report: Fraction(of_kind("Conv2d", "macs")(report), 224**2)),
    ),
    *table(
        "vgg16",
        "He et al. 2015, section 4.1",
        "multiply-adds of convolutions only",
        ("FLOPs", "15.3 billion", of_kind("Conv2d", "macs")),
    ),
    *table(
        "vgg16",
        "Howard et al. 2017, MobileNets, table 8",
        "convolutions only",
        ("MACs", "15300 million", of_kind("Conv2d", "macs")),
    ),
    *table(
        "vgg16",
        "Howard et al. 2017, MobileNets, table 8",
        "weights and biases",
        ("parameters", "138 million", total("params")),
    ),
    *table(
        "vgg19",
        "He et al. 2015, section 3.3, figure 3, section 4.1",
        "multiply-adds, fully connected layers too",
        ("FLOPs", "19.6 billion", total("macs")),
    ),
    *table(
        "vgg19",
        "Sze et al. 2017, section 3.2",
        "fully connected layers too",
        (
            "MACs, against VGG-16",
            "1.27×",
            lambda of_vgg19: Fraction(of_vgg19.total.macs, report("vgg16").total.macs),
        ),
    ),
    *keras({"vgg16": "138,357,544", "vgg19": "143,667,240"}),
    *torchvision(
        {
            "vgg11": ("132,863,336", "7.609G"),
            "vgg13": ("133,047,848", "11.308G"),
            "vgg16": ("138,357,544", "15.47G"),
            "vgg19": ("143,667,240", "19.632G"),
        },
    ),
    *torchvision(
        {
            "vgg11": ("132,868,840", "7.609G"),
            "vgg13": ("133,053,736", "11.308G"),
            "vgg16": ("138,365,992", "15.47G"),
            "vgg19": ("143,678,248", "19.632G"),
        },
        batch_norm=True,
    ),
)
