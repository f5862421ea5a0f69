"""SqueezeNet, MobileNet, DenseNet, ZFNet, OverFeat, VGG A-LRN against papers and torchvision's modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision import models

from archcalc import Report, analyze, zoo
from archcalc.errors import InputError


def report(name: str, shape: tuple[int, ...] | None = None, **choices: Any) -> Report:
    return analyze(zoo.find(name).build(**choices), shape)


def of_kind(found: Report, kind: str) -> int:
    return sum(row.weights for row in found if row.kind == kind)


def torchvisions(model: str, **arguments: Any) -> tuple[int, int]:
    """Parameters and buffers of torchvision's module."""
    with torch.device("meta"):
        module = getattr(models, model)(weights=None, **arguments)
    return sum(p.numel() for p in module.parameters()), sum(b.numel() for b in module.buffers())


# num_params and _ops (billions of MACs) of torchvision's weights meta, torchvision 0.29
@pytest.mark.parametrize(
    ("name", "model", "params", "billions"),
    [
        ("squeezenet1-0", "squeezenet1_0", 1_248_424, 0.819),
        ("squeezenet1-1", "squeezenet1_1", 1_235_496, 0.349),
        ("mobilenet-v2", "mobilenet_v2", 3_504_872, 0.301),
        ("densenet121", "densenet121", 7_978_856, 2.834),
    ],
)
def test_torchvisions_figures(name: str, model: str, params: int, billions: float) -> None:
    total = report(name).total
    assert (total.params, total.buffers) == torchvisions(model)
    assert total.params == params
    assert round(total.macs / 10**9, 3) == billions


def test_squeezenet_of_the_papers_table_1() -> None:
    found = report("squeezenet1-0", (1, 3, 227, 227))
    # Iandola et al., Table 1: sizes of the maps, printed for 224×224 though 111 = ⌊(227 - 7)/2⌋ + 1
    sizes = {"conv1": (96, 111), "fire2.concat": (128, 55), "fire4.concat": (256, 55), "pool4": (256, 27)}
    sizes |= {"fire8.concat": (512, 27), "pool8": (512, 13), "fire9.concat": (512, 13), "conv10": (1000, 13)}
    assert {name: (found[name].output[1], found[name].output[2]) for name in sizes} == sizes
    # parameters before pruning
    params = {"fire2": 11_920, "fire3": 12_432, "fire4": 45_344, "fire5": 49_440, "fire6": 104_880, "fire7": 111_024}
    params |= {"fire8": 188_992, "fire9": 197_184}
    assert {name: sum(row.params for row in found if name in row.node.blocks) for name in params} == params
    assert (found["conv1"].params, found["conv10"].params) == (14_208, 513_000)
    assert found.total.params == 1_248_424
    # "50x fewer parameters" than AlexNet's 60 million
    assert report("alexnet").total.params // found.total.params == 48
    # the repository's README: 1.1 has 2.4 times less computation than 1.0
    assert round(report("squeezenet1-0").total.macs / report("squeezenet1-1").total.macs, 1) == 2.3


# Howard et al. 2017, Tables 6 and 7: millions of mult-adds, rounded but for the 290, which is 290.7 cut, and of
# parameters
@pytest.mark.parametrize(
    ("width", "resolution", "macs", "params"),
    [
        (1.0, 224, 569, 4.2),
        (0.75, 224, 325, 2.6),
        (0.5, 224, 149, 1.3),
        (0.25, 224, 41, 0.5),
        (1.0, 192, 418, 4.2),
        (1.0, 160, 290, 4.2),
        (1.0, 128, 186, 4.2),
    ],
)
def test_mobilenet_v1_of_tables_6_and_7(width: float, resolution: int, macs: int, params: float) -> None:
    total = report("mobilenet-v1", width=width, resolution=resolution).total
    assert (int if resolution == 160 else round)(total.macs / 10**6) == macs
    assert round(total.params / 10**6, 1) == params


def test_mobilenet_v1_of_tables_1_2_and_4() -> None:
    found, full = report("mobilenet-v1"), report("mobilenet-v1", separable=False)
    # Table 4: full convolutions have 4866 M mult-adds, the classifier's million aside, and 29.3 M parameters
    assert round((full.total.macs - full["fc"].macs) / 10**6) == 4_866
    assert round(full.total.params / 10**6, 1) == 29.3
    # Table 2: percent of the mult-adds and of the weights. For the first convolution it prints 1.19% of mult-adds,
    # which are 32·27·112² = 10,838,016 of 568,740,352, or 1.91%
    assert {
        name: tuple(
            round(100 * sum(getattr(row, quantity) for row in found if row.name.endswith(name)) / whole, 2)
            for quantity, whole in (
                ("macs", found.total.macs),
                ("weights", of_kind(found, "Conv2d") + of_kind(found, "Linear")),
            )
        )
        for name in (".pointwise", ".depthwise", "conv1", "fc")
    } == {".pointwise": (94.86, 74.59), ".depthwise": (3.06, 1.06), "conv1": (1.91, 0.02), "fc": (0.18, 24.33)}
    # Table 1: the last row of convolutions keeps 7×7
    assert found["block13.pointwise"].output == found["block14.pointwise"].output == (1, 1024, 7, 7)
    # 28 layers, "counting depthwise and pointwise convolutions as separate layers"
    assert sum(row.kind in ("Conv2d", "Linear") for row in found) == 28


@pytest.mark.parametrize("width", [0.1, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4, 2.0])
def test_mobilenet_v2_of_any_width_is_torchvisions(width: float) -> None:
    total = report("mobilenet-v2", width=width).total
    assert (total.params, total.buffers) == torchvisions("mobilenet_v2", width_mult=width)


def test_mobilenet_v2_of_the_papers_table_4() -> None:
    # Sandler et al., Table 4: 300 M multiply-adds and 3.4 M parameters; of weights and biases there are 3.47 M besides
    # those of batch norms
    found = report("mobilenet-v2")
    assert round(found.total.macs / 10**7) == 30
    assert int((of_kind(found, "Conv2d") + of_kind(found, "Linear") + 1000) / 10**5) == 34


def test_multipliers_that_are_refused() -> None:
    for width in (0, -1.0, 101, "1", True, float("nan"), float("inf"), None):
        with pytest.raises(InputError, match=r"width is .*; it must be a number above 0, at most 100"):
            zoo.find("mobilenet-v1").build(width=width)
    assert zoo.find("mobilenet-v1").parse({"width": "0.5", "resolution": "160"}) == {"width": 0.5, "resolution": 160}
    for text in ("", "x", "nan", "1e9", "-1", "9" * 5000):
        with pytest.raises(InputError, match="mobilenet-v2: width is "):
            zoo.find("mobilenet-v2").parse({"width": text})


def test_densenet121_of_the_papers_table_1() -> None:
    found = report("densenet121")
    ends = {1: (256, 56), 2: (512, 28), 3: (1024, 14), 4: (1024, 7)}
    for block, (channels, size) in ends.items():
        assert found[f"denseblock{block}.concat"].output == (1, channels, size, size)
    # the depth in the name: a first convolution, two a layer, three transitions, the classifier
    assert sum(row.kind in ("Conv2d", "Linear") for row in found) == 1 + 2 * (6 + 12 + 24 + 16) + 3 + 1 == 121
    # section 3: k = 32, the i-th layer of the first block reads 64 + 32·(i - 1) maps
    assert found["denseblock1.denselayer6.conv1"].inputs[0][1] == 64 + 32 * 5


def test_zfnet_of_figure_3() -> None:
    found = report("zfnet")
    # Zeiler & Fergus, Figure 3: sizes of the maps
    sizes = {"conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv3": 13, "conv4": 13, "conv5": 13, "pool5": 6}
    assert {name: found[name].output[2] for name in sizes} == sizes
    # 96·(7²·3) + 256·(5²·96) + 384·(3²·256) + 384·(3²·384) + 256·(3²·384) + 4096·(6²·256) + 4096² + 1000·4096
    weights = 14_112 + 614_400 + 884_736 + 1_327_104 + 884_736 + 37_748_736 + 16_777_216 + 4_096_000
    assert found.total.weights == weights
    assert found.total.biases == 96 + 256 + 384 + 384 + 256 + 4096 + 4096 + 1000


def test_overfeat_of_table_1() -> None:
    found = report("overfeat")
    # Sermanet et al., Table 1: the sizes of what flows into stages 3 to 6; that of stage 2 is printed as 24×24, which
    # is what its convolution puts out
    sizes = {"conv1": 56, "pool1": 28, "conv2": 24, "pool2": 12, "conv5": 12, "pool5": 6}
    assert {name: found[name].output[2] for name in sizes} == sizes
    # Sze et al. 2017, section 3.2: 146 M weights, 2.8 G MACs
    assert round(found.total.weights / 10**6) == 146
    assert round(found.total.macs / 10**9, 1) == 2.8


def test_vgg_a_lrn() -> None:
    plain, normed = report("vgg11"), report("vgg11-lrn")
    assert normed.total.params == plain.total.params
    assert normed.total.macs == plain.total.macs
    assert [row.name for row in normed][:4] == ["input", "conv1_1", "relu1_1", "norm1_1"]
    assert len(normed) == len(plain) + 1
