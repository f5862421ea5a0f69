"""The zoo against published figures; each is copied from the source named beside it, none from archcalc."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from archcalc import Network, Report, analyze, zoo
from archcalc.errors import InputError, ShapeError, UnknownNameError
from archcalc.zoo.registry import Entry, entry


def report(name: str, shape: tuple[Any, ...] | None = None, **choices: Any) -> Report:
    return analyze(zoo.find(name).build(**choices), shape)


def of_kind(found: Report, kind: str, quantity: str) -> int:
    return sum(getattr(row, quantity) for row in found if row.kind == kind)


# Totals

PARAMS = [
    ("alexnet", {}, 60_965_224, "Caffe bvlc_alexnet, groups=2 in conv2, conv4, conv5"),
    ("alexnet", {"towers": 1}, 62_378_344, "learnopencv.com, Number of Parameters and Tensor Sizes in a CNN (2018)"),
    ("alexnet-torchvision", {}, 61_100_840, "torchvision AlexNet_Weights.IMAGENET1K_V1.meta num_params"),
    ("vgg11", {}, 132_863_336, "torchvision VGG11_Weights meta num_params"),
    ("vgg11", {"batch_norm": True}, 132_868_840, "torchvision VGG11_BN_Weights meta num_params"),
    ("vgg13", {}, 133_047_848, "torchvision VGG13_Weights meta num_params"),
    ("vgg13", {"batch_norm": True}, 133_053_736, "torchvision VGG13_BN_Weights meta num_params"),
    ("vgg16", {}, 138_357_544, "torchvision VGG16_Weights meta num_params"),
    ("vgg16", {"batch_norm": True}, 138_365_992, "torchvision VGG16_BN_Weights meta num_params"),
    ("vgg19", {}, 143_667_240, "torchvision VGG19_Weights meta num_params"),
    ("vgg19", {"batch_norm": True}, 143_678_248, "torchvision VGG19_BN_Weights meta num_params"),
    ("resnet18", {}, 11_689_512, "torchvision ResNet18_Weights meta num_params"),
    ("resnet34", {}, 21_797_672, "torchvision ResNet34_Weights meta num_params"),
    ("resnet50", {}, 25_557_032, "torchvision ResNet50_Weights meta num_params"),
    ("resnet101", {}, 44_549_160, "torchvision ResNet101_Weights meta num_params"),
    ("resnet152", {}, 60_192_808, "torchvision ResNet152_Weights meta num_params"),
]


@pytest.mark.parametrize(("name", "choices", "published", "source"), PARAMS)
def test_published_parameters(name: str, choices: dict[str, Any], published: int, source: str) -> None:
    assert report(name, **choices).total.params == published, source


# Simonyan & Zisserman, ICLR 2015 v6, Table 2: millions, rounded
@pytest.mark.parametrize(
    ("name", "millions"), [("vgg11", 133), ("vgg13", 133), ("vgg16c", 134), ("vgg16", 138), ("vgg19", 144)]
)
def test_vgg_parameters_of_the_papers_table_2(name: str, millions: int) -> None:
    assert round(report(name).total.params / 10**6) == millions


def test_configuration_c_is_configuration_d_with_1x1_kernels_at_the_end_of_three_blocks() -> None:
    # 8 of the 9 taps of each of these kernels are gone: 8·(256·256 + 2·512·512) = 4,718,592
    assert report("vgg16").total.params - report("vgg16c").total.params == 8 * (256 * 256 + 2 * 512 * 512)


# AlexNet


def test_alexnet_parameters_by_layer_on_one_tower() -> None:
    # Stack Exchange, "How to calculate the number of parameters of AlexNet?"
    published = {"conv1": 34_944, "conv2": 614_656, "conv3": 885_120, "conv4": 1_327_488, "conv5": 884_992}
    published |= {"fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000}
    found = report("alexnet", towers=1)
    assert {row.name: row.params for row in found if row.params} == published
    # learnopencv.com (2018): parameters of the five convolutions
    assert of_kind(found, "Conv2d", "params") == 3_747_200


def test_alexnet_parameters_by_layer_on_two_towers() -> None:
    # weights of conv2, conv4, conv5 are halved, biases are not; Netscope prints 307.46 K, 663.94 K, 442.62 K
    found = report("alexnet")
    assert found["conv2"].params == 5 * 5 * 48 * 256 + 256 == 307_456
    assert found["conv4"].params == 3 * 3 * 192 * 384 + 384 == 663_936
    assert found["conv5"].params == 3 * 3 * 192 * 256 + 256 == 442_624
    # Chen et al., Eyeriss, ISSCC 2016: 2.3 M convolution weights; the exact sum of their five layers
    assert of_kind(found, "Conv2d", "weights") == 2_332_704


def test_alexnet_neurons_of_figure_2() -> None:
    # Krizhevsky et al. 2012, caption of Figure 2, but for conv1: it prints 253,440 = 55·48·96, the maps are
    # 55·55·96 = 290,400 (CS231n's notes)
    neurons = {"conv1": 290_400, "conv2": 186_624, "conv3": 64_896, "conv4": 64_896, "conv5": 43_264}
    neurons |= {"fc6": 4096, "fc7": 4096, "fc8": 1000}
    for found in (report("alexnet"), report("alexnet", towers=1)):
        assert {row.name: row.activations for row in found if row.kind in ("Conv2d", "Linear")} == neurons
    assert sum(neurons.values()) == 659_272


def test_alexnet_macs_of_netscope() -> None:
    # Netscope's dump of Caffe's bvlc_alexnet at batch 10, "macc" rounded as it prints them
    printed = {"conv1": "1.05G", "conv2": "2.24G", "conv3": "1.50G", "conv4": "1.12G", "conv5": "747.60M"}
    printed |= {"fc6": "377.49M", "fc7": "167.77M", "fc8": "40.96M"}
    found = report("alexnet", (10, 3, 227, 227))

    def rounded(macs: int) -> str:
        return f"{macs / 10**9:.2f}G" if macs >= 10**9 else f"{macs / 10**6:.2f}M"

    assert {row.name: rounded(row.macs) for row in found if row.macs} == printed
    assert found.total.macs == 7_244_068_160


def test_alexnet_macs_of_surveys() -> None:
    found = report("alexnet")
    # Sze et al. 2017, section 3.2: 61 M weights, 724 M MACs on 227×227
    assert round(found.total.macs / 10**6) == 724
    assert round(found.total.weights / 10**6) == 61
    # Chen et al., Eyeriss: 666 M MACs of convolutions, 13,000 MACs a pixel
    assert round(of_kind(found, "Conv2d", "macs") / 10**6) == 666
    assert round(of_kind(found, "Conv2d", "macs") / 227**2, -3) == 13_000
    # torchvision's meta "_ops" of its AlexNet: 0.714
    assert round(report("alexnet-torchvision").total.macs / 10**9, 3) == 0.714


def test_alexnet_layer_by_layer() -> None:
    # sizes: (227 − 11)/4 + 1 = 55, (55 − 3)/2 + 1 = 27, (27 − 3)/2 + 1 = 13, (13 − 3)/2 + 1 = 6
    found = report("alexnet")
    shapes = {row.name: row.output[1:] for row in found if row.kind in ("Conv2d", "MaxPool2d", "Flatten")}
    assert shapes == {
        "conv1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "conv2": (256, 27, 27),
        "pool2": (256, 13, 13),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
        "flatten": (9216,),
    }
    # the order of section 3: convolution, ReLU, normalisation, pooling
    assert [row.name for row in found][1:5] == ["conv1", "relu1", "norm1", "pool1"]
    assert sum(row.kind == "LocalResponseNorm" for row in found) == 2


def test_alexnet_on_the_papers_224_has_no_55_maps() -> None:
    # ⌊(224 − 11)/4⌋ + 1 = 54
    assert report("alexnet", (1, 3, 224, 224))["conv1"].output == (1, 96, 54, 54)


# VGG

# CS231n 2017, lecture 9, the VGG-16 table: activations (printed rounded there, here exact) and weights without biases
CS231N_VGG16 = [
    ("input", 224 * 224 * 3, 0),
    ("conv1_1", 224 * 224 * 64, 1_728),
    ("conv1_2", 224 * 224 * 64, 36_864),
    ("pool1", 112 * 112 * 64, 0),
    ("conv2_1", 112 * 112 * 128, 73_728),
    ("conv2_2", 112 * 112 * 128, 147_456),
    ("pool2", 56 * 56 * 128, 0),
    ("conv3_1", 56 * 56 * 256, 294_912),
    ("conv3_2", 56 * 56 * 256, 589_824),
    ("conv3_3", 56 * 56 * 256, 589_824),
    ("pool3", 28 * 28 * 256, 0),
    ("conv4_1", 28 * 28 * 512, 1_179_648),
    ("conv4_2", 28 * 28 * 512, 2_359_296),
    ("conv4_3", 28 * 28 * 512, 2_359_296),
    ("pool4", 14 * 14 * 512, 0),
    ("conv5_1", 14 * 14 * 512, 2_359_296),
    ("conv5_2", 14 * 14 * 512, 2_359_296),
    ("conv5_3", 14 * 14 * 512, 2_359_296),
    ("pool5", 7 * 7 * 512, 0),
    ("fc6", 4096, 102_760_448),
    ("fc7", 4096, 16_777_216),
    ("fc8", 1000, 4_096_000),
]


def test_vgg16_is_the_table_of_cs231n() -> None:
    found = report("vgg16", bias=False)
    assert [(row.name, row.activations, row.weights) for row in found if row.activations] == CS231N_VGG16
    assert found.total.biases == 0
    # the slide says 24M; its own rows sum to this (cs231n.github.io issue 88)
    assert found.total.activations == 15_237_608
    assert round(found.total.params / 10**6) == 138


def test_vgg_macs_of_surveys() -> None:
    vgg16, vgg19 = report("vgg16"), report("vgg19")
    # Sze et al. 2017, section 3.2: 15.5 G MACs; VGG-19 has 1.27 times as many
    assert round(vgg16.total.macs / 10**9, 1) == 15.5
    assert round(vgg19.total.macs / vgg16.total.macs, 2) == 1.27
    # He et al. 2015, section 4.1, "15.3/19.6 billion FLOPs": convolutions only, and all
    assert round(of_kind(vgg16, "Conv2d", "macs") / 10**9, 1) == 15.3
    assert round(vgg19.total.macs / 10**9, 1) == 19.6
    # Chen et al., Eyeriss: 14.7 M convolution weights, 306 K MACs a pixel
    assert round(of_kind(vgg16, "Conv2d", "weights") / 10**6, 1) == 14.7
    assert round(of_kind(vgg16, "Conv2d", "macs") / 224**2 / 1000) == 306


def test_a_stack_of_three_3x3_against_one_7x7() -> None:
    # Simonyan & Zisserman, section 2.3: a 7×7 receptive field for 27C² weights, which 49C² exceeds by 81%
    found = report("vgg19", bias=False)
    C = 256
    stack = ["conv3_2", "conv3_3", "conv3_4"]
    assert sum(found[name].weights for name in stack) == 27 * C**2
    before, after = found["conv3_1"], found["conv3_4"]
    assert before.receptive_field is not None
    assert after.receptive_field is not None
    assert (after.receptive_field[0] - before.receptive_field[0]) // after.jump[0] + 1 == 7  # type: ignore[index]
    assert int(100 * (49 * C**2 / (27 * C**2) - 1)) == 81


def test_vgg_depths() -> None:
    # the number in the name counts layers with weights
    for name, depth in (("vgg11", 11), ("vgg13", 13), ("vgg16c", 16), ("vgg16", 16), ("vgg19", 19)):
        assert sum(row.kind in ("Conv2d", "Linear") for row in report(name)) == depth


def test_adaptive_pooling_changes_nothing_at_224() -> None:
    plain, pooled = report("vgg11"), report("vgg11", avgpool=True)
    assert (plain.total.params, plain.total.macs) == (pooled.total.params, pooled.total.macs)
    # at 448 only the pooled one keeps its classifier: 14·14·512·4096 against 7·7·512·4096
    assert report("vgg11", (1, 3, 448, 448), avgpool=True)["fc6"].weights == 7 * 7 * 512 * 4096
    assert report("vgg11", (1, 3, 448, 448))["fc6"].weights == 14 * 14 * 512 * 4096


# ResNet


@pytest.mark.parametrize(
    ("name", "choices", "billions"),
    [
        # He et al. 2015, Table 1, "FLOPs" (multiply-adds). 3.8 is 3.858 cut, not rounded; Sze et al. print 3.9
        ("resnet18", {"shortcut": "A"}, 1.8),
        ("resnet34", {"shortcut": "A"}, 3.6),
        ("resnet50", {"stride_on": "1x1"}, 3.9),
        ("resnet101", {"stride_on": "1x1"}, 7.6),
        ("resnet152", {"stride_on": "1x1"}, 11.3),
        # Figure 3 and section 3.3
        ("plain34", {}, 3.6),
        ("vgg19", {}, 19.6),
    ],
)
def test_resnet_flops_of_the_papers_table_1(name: str, choices: dict[str, Any], billions: float) -> None:
    assert round(report(name, **choices).total.macs / 10**9, 1) == billions


def test_resnet_variants_that_would_print_otherwise() -> None:
    # the choices matter: under option B ResNet-34 would print 3.7, torchvision's ResNet-50 4.1
    assert round(report("resnet34").total.macs / 10**9, 1) == 3.7
    assert round(report("resnet50").total.macs / 10**9, 3) == 4.089
    assert round(report("resnet50", stride_on="1x1").total.macs / 10**9, 3) == 3.858
    # section 3.3: "only 18% of VGG-19"
    assert int(100 * report("plain34").total.macs / report("vgg19").total.macs) == 18


@pytest.mark.parametrize("depth", ["18", "34"])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("conv_bias", [True, False])
def test_a_plain_network_is_its_residual_twin_under_option_a(depth: str, batch_norm: bool, conv_bias: bool) -> None:
    plain = report(f"plain{depth}", batch_norm=batch_norm, conv_bias=conv_bias).total
    residual = report(f"resnet{depth}", shortcut="A", batch_norm=batch_norm, conv_bias=conv_bias).total
    for quantity in ("weights", "biases", "buffers", "macs"):
        assert getattr(plain, quantity) == getattr(residual, quantity)
    # what the shortcuts add are additions alone: one an element of each block's output
    adds = residual.ledger["add"] - plain.ledger.get("add", 0)
    blocks = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3)}[depth]
    assert adds == sum(n * 64 * 2**i * (56 // 2**i) ** 2 for i, n in enumerate(blocks))


def test_conv_bias_of_resnet34_option_a() -> None:
    # biases of 33 convolutions: 64 + 6·64 + 8·128 + 12·256 + 6·512 = 7,616, and 1,000 of fc
    assert report("resnet34", shortcut="A", batch_norm=False, conv_bias=True).total.biases == 7616 + 1000
    assert report("resnet34", shortcut="A", batch_norm=False).total.biases == 1000
    # a batch norm has a weight and a bias for each of the same channels, two running statistics,
    # and one count of batches for each of the 33
    total = report("resnet34", shortcut="A").total
    assert (total.biases, total.buffers) == (7616 + 1000, 2 * 7616 + 33)


def test_projections_of_resnet34() -> None:
    def projections(shortcut: str) -> int:
        return sum(row.name.endswith("downsample.0") for row in report("resnet34", shortcut=shortcut))

    # section 4.1: option C has thirteen more than option B's three
    assert (projections("A"), projections("B"), projections("C")) == (0, 3, 16)
    # B: 64·128 + 128·256 + 256·512 = 172,032 weights, and 2·(128 + 256 + 512) = 1,792 of batch norm
    a, b, c = (report("resnet34", shortcut=option).total for option in "ABC")
    assert b.params - a.params == 172_032 + 1_792
    # C: 3·64² + 3·128² + 5·256² + 2·512² = 913,408 weights, and 2·(3·64 + 3·128 + 5·256 + 2·512) of batch norm
    assert c.params - b.params == 913_408 + 2 * (192 + 384 + 1280 + 1024)


@pytest.mark.parametrize(("name", "layers"), [("resnet18", 18), ("resnet34", 34), ("resnet50", 50), ("resnet101", 101)])
def test_depth_in_the_name_counts_layers_with_weights_but_for_projections(name: str, layers: int) -> None:
    found = report(name)
    counted = [row for row in found if row.kind in ("Conv2d", "Linear") and "downsample" not in row.name]
    assert len(counted) == layers


def test_resnet_stages_have_the_sizes_of_table_1() -> None:
    for name, widths in (("resnet34", (64, 128, 256, 512)), ("resnet50", (256, 512, 1024, 2048))):
        variants: list[dict[str, Any]] = [{"stride_on": "1x1"}, {"stride_on": "3x3"}] if name == "resnet50" else [{}]
        for choices in variants:
            found = report(name, **choices)
            assert found["conv1"].output == (1, 64, 112, 112)
            sizes = [[row.output for row in found if row.name.startswith(f"layer{i}")][-1] for i in (1, 2, 3, 4)]
            assert sizes == [(1, w, s, s) for w, s in zip(widths, (56, 28, 14, 7), strict=True)]


def test_stride_on_moves_macs_but_no_parameters() -> None:
    for name in ("resnet50", "resnet101", "resnet152"):
        one, three = report(name, stride_on="1x1").total, report(name, stride_on="3x3").total
        assert one.params == three.params
        # the first 1×1 of stages 2 to 4 then runs on a quarter of the pixels: 3/4 · (2s)²·C·C/2 fewer MACs, with
        # s the stage's size and C the channels that come in, and (2s)²·C·C/2 = 56²·256·128 in each of the stages
        assert three.macs - one.macs == 3 * 56**2 * 256 * 128 * 3 // 4


# Inception


def test_the_labs_inception_modules() -> None:
    # COMS E6998-010 Homework 3, Problem 3.4, Figure 1, on 32×32×256
    naive, reduced = report("inception-naive"), report("inception-reduced")
    assert naive.rows[-1].output == (1, 128 + 192 + 96 + 256, 32, 32) == (1, 672, 32, 32)
    assert reduced.rows[-1].output == (1, 128 + 192 + 96 + 64, 32, 32) == (1, 480, 32, 32)
    S = 32 * 32
    assert {row.name: row.macs for row in naive if row.macs} == {
        "conv1x1": S * 128 * 256,
        "conv3x3": S * 192 * 3 * 3 * 256,
        "conv5x5": S * 96 * 5 * 5 * 256,
    }
    assert {row.name: row.macs for row in reduced if row.macs} == {
        "conv1x1": S * 128 * 256,
        "reduce3x3": S * 128 * 256,
        "conv3x3": S * 192 * 3 * 3 * 128,
        "reduce5x5": S * 32 * 256,
        "conv5x5": S * 96 * 5 * 5 * 32,
        "pool_proj": S * 64 * 256,
    }
    assert (naive.total.macs, reduced.total.macs) == (1_115_684_864, 397_410_304)


def test_inception_of_cs231n() -> None:
    # CS231n 2017, lecture 9: 28×28×256; 854M ops and 28×28×672 for the naive module
    naive = report("inception-naive", size=28)
    assert naive.rows[-1].output == (1, 672, 28, 28)
    assert round(naive.total.macs / 10**6) == 854
    # the slide's 358M counts the 3×3 twice: its six products sum to 271,351,808
    reduced = report("inception-reduced", size=28, reduce3x3=64, reduce5x5=64)
    assert reduced.total.macs == 271_351_808
    assert reduced.total.macs + reduced["conv3x3"].macs == 358_055_936


# Szegedy et al., arXiv 1409.4842, Table 1: filters, input channels, size, output channels, params (K = 1024), ops (M);
# rows whose printed figures are errata are left out
GOOGLENET = [
    ("3a", (64, 96, 128, 16, 32, 32), 192, 28, 256, 159, 128),
    ("3b", (128, 128, 192, 32, 96, 64), 256, 28, 480, None, 304),
    ("4b", (160, 112, 224, 24, 64, 64), 512, 14, 512, None, 88),
    ("4c", (128, 128, 256, 24, 64, 64), 512, 14, 512, None, 100),
    ("4d", (112, 144, 288, 32, 64, 64), 512, 14, 528, None, 119),
    ("4e", (256, 160, 320, 32, 128, 128), 528, 14, 832, None, 170),
    ("5b", (384, 192, 384, 48, 128, 128), 832, 7, 1024, None, 71),
]


@pytest.mark.parametrize(("name", "filters", "channels", "size", "output", "params", "ops"), GOOGLENET)
def test_inception_modules_of_googlenet(
    name: str, filters: tuple[int, ...], channels: int, size: int, output: int, params: int | None, ops: int
) -> None:
    names = ("conv1x1", "reduce3x3", "conv3x3", "reduce5x5", "conv5x5", "pool_proj")
    widths: dict[str, Any] = dict(zip(names, filters, strict=True))
    found = report("inception-reduced", channels=channels, size=size, **widths)
    assert found.rows[-1].output == (1, output, size, size), name
    assert round(found.total.macs / 10**6) == ops
    if params is not None:
        assert int(found.total.weights / 1024) == params


# Every entry


def values(hint: Any, default: Any) -> tuple[Any, ...]:
    """All values of a choice where they can be listed, else the default and one more."""
    if get_origin(hint) is not None:
        return get_args(hint)
    return (True, False) if hint is bool else (default, 7)


def combinations(chosen: Entry) -> Iterator[dict[str, Any]]:
    hints = get_type_hints(chosen.recipe)
    listed = {name: values(hints[name], default) for name, default in chosen.choices.items()}
    if chosen.family == "Inception":  # whole numbers but for one: all at 7, and each alone
        yield dict.fromkeys((name for name in listed if name != "bias"), 7)
        yield from ({name: 7} for name in listed if name != "bias")
        yield from ({"bias": value} for value in (True, False))
        return
    for chosen_values in product(*listed.values()):
        yield dict(zip(listed, chosen_values, strict=True))


@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_every_combination_of_choices_builds_and_analyses(name: str) -> None:
    chosen = zoo.find(name)
    for choices in combinations(chosen):
        network = chosen.build(**choices)
        found = analyze(network)
        assert network.name == name
        assert not found.uncounted
        assert found.total.params == sum(row.params for row in found) > 0
        assert found.total.macs == sum(row.macs for row in found) > 0
        if "classes" in choices:
            assert found.rows[-1].output == (1, choices["classes"])
        if choices.get("bias") is False and not choices.get("batch_norm"):
            assert found.total.biases == 0
        reference = chosen.reference(choices)
        assert reference is None or analyze(chosen.build(**reference.choices)).total.params == found.total.params


@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_every_entry_says_what_it_is(name: str) -> None:
    chosen = zoo.find(name)
    assert chosen.summary.endswith(".")
    assert len(chosen.summary) <= 120
    assert 1986 <= chosen.year <= 2026
    assert chosen.paper
    names = [node.name for node in chosen.build()]
    assert len(set(names)) == len(names)
    function = getattr(zoo, name.replace("-", "_"))
    assert isinstance(function(), Network)
    assert function() == chosen.build() == chosen.build(**chosen.choices)


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18"])
@pytest.mark.parametrize("classes", [0, -1, 1.5, "10", None, True, [10]])
def test_an_ill_typed_number_of_classes_is_refused(name: str, classes: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name}: classes is .*; it must be a whole number of at least 1$"):
        zoo.find(name).build(classes=classes)


@pytest.mark.parametrize(
    ("name", "choice", "value", "wanted"),
    [
        ("alexnet", "towers", 3, "1 or 2"),
        ("alexnet", "towers", True, "1 or 2"),
        ("alexnet", "towers", "2", "1 or 2"),
        ("vgg19", "bias", 1, "true or false"),
        ("vgg19", "bias", "no", "true or false"),
        ("vgg19", "batch_norm", None, "true or false"),
        ("resnet34", "shortcut", "D", "A or B or C"),
        ("resnet34", "shortcut", "b", "A or B or C"),
        ("resnet50", "stride_on", "1", "1x1 or 3x3"),
        ("inception-naive", "size", 0, "a whole number of at least 1"),
    ],
)
def test_an_ill_typed_choice_is_refused(name: str, choice: str, value: Any, wanted: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}: {choice} is .*; it must be {wanted}$"):
        zoo.find(name).build(**{choice: value})


def test_an_unknown_choice_or_network_is_refused_with_what_comes_near() -> None:
    with pytest.raises(UnknownNameError, match=r"choice of vgg19 'biass'; did you mean 'bias'\? There are: bias, "):
        zoo.find("vgg19").build(biass=False)
    with pytest.raises(UnknownNameError, match=r"'depth'; there are: towers, bias, classes"):
        zoo.find("alexnet").build(depth=3)
    with pytest.raises(UnknownNameError, match=r"unknown network 'VGG91'; did you mean 'vgg19'"):
        zoo.find("VGG91")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("YES", True),
        ("on", True),
        ("1", True),
        ("False", False),
        ("no", False),
        ("off", False),
        ("0", False),
    ],
)
def test_words_for_true_and_false(text: str, value: bool) -> None:
    assert zoo.find("vgg19").parse({"bias": text}) == {"bias": value}


def test_choices_are_read_as_their_types() -> None:
    assert zoo.find("alexnet").parse({"towers": "1", "classes": "10"}) == {"towers": 1, "classes": 10}
    assert zoo.find("resnet50").parse({"stride_on": "1x1", "shortcut": "C"}) == {"stride_on": "1x1", "shortcut": "C"}
    for key, text in (("classes", "1e3"), ("classes", "1_000"), ("classes", ""), ("classes", "²"), ("towers", "x")):
        with pytest.raises(InputError, match=f"alexnet: {key} is "):
            zoo.find("alexnet").parse({key: text})
    with pytest.raises(UnknownNameError, match="choice of alexnet 'return'"):
        zoo.find("alexnet").parse({"return": "1"})


def test_a_number_of_thousands_of_digits_is_refused_in_a_short_message() -> None:
    with pytest.raises(InputError) as caught:
        zoo.find("vgg19").parse({"classes": "9" * 5000})
    assert len(str(caught.value)) < 120


def test_references_are_torchvisions_networks_only() -> None:
    def model(name: str, **choices: Any) -> str | None:
        reference = zoo.find(name).reference(choices)
        return reference.model if reference else None

    assert model("alexnet-torchvision", classes=10) == "alexnet"
    assert model("vgg19", batch_norm=True) == "vgg19_bn"
    assert model("resnet50") == "resnet50"
    others: list[tuple[str, dict[str, Any]]] = [
        ("alexnet", {}),
        ("vgg16c", {}),
        ("plain34", {}),
        ("inception-naive", {}),
        ("vgg19", {"bias": False}),
        ("resnet50", {"stride_on": "1x1"}),
        ("resnet18", {"shortcut": "A"}),
        ("resnet18", {"batch_norm": False}),
        ("resnet18", {"conv_bias": True}),
    ]
    for name, choices in others:
        assert model(name, **choices) is None


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two zoo entries called vgg19"):
        entry("vgg19", family="", year=2014, paper="")(zoo.vgg19)


def test_an_input_too_small_names_layer_shapes_and_constraint() -> None:
    with pytest.raises(ShapeError, match=r"pool5 \(MaxPool2d\) on an input of 1×512×1×1: a kernel that spans 2 .* = 1"):
        report("vgg19", (1, 3, 16, 16))
