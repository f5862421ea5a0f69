"""What was published about AlexNet."""

from __future__ import annotations

from fractions import Fraction

from archcalc.analysis import Report
from archcalc.working import Worked, summand, worked
from archcalc.zoo.figures import (
    Cause,
    Figure,
    by_convention,
    by_layer,
    elements,
    of,
    of_kind,
    table,
    torchvision,
    total,
)

PAPER = "Krizhevsky et al. 2012"
OUTPUTS = "outputs of the layer, both towers"
EYERISS = "Chen et al., Eyeriss, ISSCC 2016, abstract"
NETSCOPE = "Netscope, Caffe's bvlc_alexnet, batch 10"
BATCH = (10, 3, 227, 227)
CONV = "convolutions only, 227×227 input"
NOTES = "CS231n notes, convolutional networks"


def neurons(report: Report) -> int:
    """Outputs of all convolutions and fully connected layers."""
    return sum(row.activations for row in report if row.kind in ("Conv2d", "Linear"))


def one_tower_high(report: Report) -> Worked:
    """conv1 with the maps of one tower in place of the height: 55·48·96."""
    _, maps, _, width = report["conv1"].output
    return worked(worked(width) * (maps // 2) * maps)


def unshared(report: Report) -> Worked:
    """Parameters of conv1 if no two of its outputs shared theirs."""
    conv = report["conv1"]
    return worked(summand(conv.activations) * (conv.params // conv.output[1]))


def blobs(report: Report) -> Worked:
    """Outputs of all layers, also of those in place, but for the flatten; the input and the softmax are among them."""
    layers = sum(elements(row) for row in report if row.kind != "Flatten")
    return summand(layers) + summand(elements(report.rows[-1]))


def pixels(report: Report) -> int:
    """Pixels of the input image."""
    return int(report.input[2] * report.input[3])


FIGURES: tuple[Figure, ...] = (
    *table(
        "alexnet",
        f"{PAPER}, abstract",
        "weights and biases",
        ("parameters", "60 million", total("params")),
    ),
    *table(
        "alexnet",
        f"{PAPER}, abstract",
        "outputs of convolutions and fully connected layers",
        ("neurons", "650,000", neurons),
    ),
    *table(
        "alexnet",
        f"{PAPER}, figure 2",
        "height times width times colours",
        (
            "inputs",
            "150,528",
            of("input", "activations"),
            Cause("224×224, on which conv1 has no 55×55 outputs", lambda report: worked(224) * 224 * 3),
        ),
    ),
    *table(
        "alexnet",
        f"{PAPER}, figure 2",
        OUTPUTS,
        (
            "neurons of conv1",
            "253,440",
            of("conv1", "activations"),
            Cause("the 48 maps of one tower in place of a 55", one_tower_high),
        ),
        *by_layer(
            "neurons of {}",
            "activations",
            {"conv2": "186,624", "conv3": "64,896", "conv4": "64,896", "conv5": "43,264"}
            | {"fc6": "4096", "fc7": "4096", "fc8": "1000"},
        ),
    ),
    *table("alexnet", "Caffe, bvlc_alexnet", "weights and biases", ("parameters", "60,965,224", total("params"))),
    *table("alexnet", "Sze et al. 2017, section 3.2", "", ("weights", "61M", total("weights"))),
    *table(
        "alexnet",
        "Sze et al. 2017, section 3.2",
        "227×227 input",
        ("MACs", "724M", total("macs")),
    ),
    *table(
        "alexnet",
        "Sze et al. 2017, table II",
        "227×227 input",
        ("weights of convolutions", "2.3M", of_kind("Conv2d", "weights")),
        ("MACs of convolutions", "666M", of_kind("Conv2d", "macs")),
        ("weights of fully connected layers", "58.6M", of_kind("Linear", "weights")),
        ("MACs of fully connected layers", "58.6M", of_kind("Linear", "macs")),
    ),
    *table(
        "alexnet",
        EYERISS,
        CONV,
        ("MACs of convolutions", "666 million", of_kind("Conv2d", "macs")),
        ("weights of convolutions", "2.3 million", of_kind("Conv2d", "weights")),
        ("bytes of these weights", "4.6MB", lambda report: 2 * summand(of_kind("Conv2d", "weights")(report))),
        (
            "MACs of convolutions a pixel",
            "13k",
            lambda report: Fraction(of_kind("Conv2d", "macs")(report), pixels(report)),
        ),
    ),
    *table(
        "alexnet",
        "Howard et al. 2017, MobileNets, table 9",
        "",
        ("MACs", "720 million", total("macs")),
        ("parameters", "60 million", total("params")),
    ),
    *table(
        "alexnet",
        "Iandola et al. 2016, table 2",
        "4 bytes a parameter",
        ("bytes", "240MB", lambda report: worked(4) * summand(report.total.params)),
    ),
    *table(
        "alexnet",
        NETSCOPE,
        '"macc", 10 images',
        *by_layer(
            "MACs of {}",
            "macs",
            {"conv1": "1.05G", "conv2": "2.24G", "conv3": "1.5G", "conv4": "1.12G", "conv5": "747.6M"}
            | {"fc6": "377.49M", "fc7": "167.77M", "fc8": "40.96M"},
        ),
        input=BATCH,
    ),
    *table(
        "alexnet",
        NETSCOPE,
        'netscope: "macc", local response norms too, 10 images',
        ("MACs", "7.27G", by_convention("netscope")),
        input=BATCH,
    ),
    *table(
        "alexnet",
        NETSCOPE,
        '"param"',
        *by_layer(
            "parameters of {}",
            "params",
            {"conv1": "34.94k", "conv2": "307.46k", "conv3": "885.12k", "conv4": "663.94k", "conv5": "442.62k"}
            | {"fc6": "37.75M", "fc7": "16.78M", "fc8": "4.1M"},
        ),
        input=BATCH,
    ),
    *table(
        "alexnet",
        NETSCOPE,
        '"activation", 10 images',
        *by_layer(
            "activations of {}",
            "activations",
            {"conv1": "2.9M", "pool1": "699.84k", "conv2": "1.87M", "pool2": "432.64k", "conv3": "648.96k"}
            | {"conv4": "648.96k", "conv5": "432.64k", "pool5": "92.16k"},
        ),
        input=BATCH,
    ),
    *table(
        "alexnet",
        NETSCOPE,
        '"activation" of all layers, in place or not, of the input and a softmax, 10 images',
        ("activations", "20.81M", blobs),
        input=BATCH,
    ),
    *table(
        "alexnet",
        NOTES,
        "weights and biases",
        ("outputs of conv1", "290,400", of("conv1", "activations")),
        ("parameters of conv1, none shared", "105,705,600", unshared),
        ("parameters of conv1", "34,944", of("conv1", "params")),
    ),
    *table(
        "alexnet",
        "learnopencv.com 2018, Number of Parameters and Tensor Sizes in a CNN",
        "weights and biases",
        ("parameters", "62,378,344", total("params")),
        ("parameters of convolutions", "3,747,200", of_kind("Conv2d", "params")),
        choices={"towers": 1},
    ),
    *table(
        "alexnet",
        "Stack Exchange, How to calculate the number of parameters of AlexNet?",
        "weights and biases",
        *by_layer(
            "parameters of {}",
            "params",
            {"conv1": "34,944", "conv2": "614,656", "conv3": "885,120", "conv4": "1,327,488", "conv5": "884,992"}
            | {"fc6": "37,752,832", "fc7": "16,781,312", "fc8": "4,097,000"},
        ),
        choices={"towers": 1},
    ),
    *torchvision({"alexnet-torchvision": ("61,100,840", "0.714G")}),
)
