"""Residual networks and perceptrons for CIFAR-10, and the network of width 2, against papers and arithmetic."""

from __future__ import annotations

import pytest

from archcalc import Report, analyze, zoo


def report(name: str, **choices: object) -> Report:
    return analyze(zoo.find(name).build(**choices))


# He et al. 2015, Table 6: millions of parameters, as many digits as are printed
@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7), (1202, 19.4)]
)
def test_cifar_resnets_of_table_6(depth: int, millions: float) -> None:
    found = report(f"resnet{depth}")
    assert round(found.total.params / 10**6, 1 if depth > 100 else 2) == millions
    n = (depth - 2) // 6
    # 3·9·16; 2n convolutions of 16, then of 32 and 64 the first from half as many maps; the classifier
    weights = 3 * 9 * 16 + 9 * (2 * n * (16**2 + 32**2 + 64**2) - 16 * 32 - 32 * 64) + 64 * 10
    channels = 16 + 2 * n * (16 + 32 + 64)
    assert found.total.params == weights + 10 + 2 * channels
    assert sum(row.kind in ("Conv2d", "Linear") for row in found) == depth
    # section 4.2: maps of 32×32, 16×16, 8×8
    ends = [[row.output for row in found if row.name.startswith(f"layer{i}.")][-1] for i in (1, 2, 3)]
    assert ends == [(1, 16, 32, 32), (1, 32, 16, 16), (1, 64, 8, 8)]


def test_projections_of_a_cifar_resnet() -> None:
    # two projections, 16·32 + 32·64 weights and a batch norm of 32 and of 64 channels
    more = report("resnet20", shortcut="B").total.params - report("resnet20").total.params
    assert more == 16 * 32 + 32 * 64 + 2 * (32 + 64)


def test_resnet18_for_cifar() -> None:
    found, imagenet = report("resnet18-cifar"), analyze(zoo.resnet18(classes=10))
    # a first kernel of 3×3 instead of 7×7: 3·64·(49 - 9) fewer weights
    assert found.total.params == imagenet.total.params - 3 * 64 * (49 - 9) == 11_173_962
    assert found["layer4.1.add"].output == (1, 512, 4, 4)
    # stages 1 to 4 on 32² pixels instead of 56²: each MAC of theirs 32²/56² times as often
    convolutions = sum(row.macs for row in imagenet if row.name.startswith("layer"))
    assert found.total.macs == convolutions * 32**2 // 56**2 + 32**2 * 27 * 64 + 512 * 10


def test_the_perceptron_3072_1000_1000_10() -> None:
    total = report("mlp").total
    assert total.weights == total.macs == 3072 * 1000 + 1000 * 1000 + 1000 * 10
    assert total.biases == 1000 + 1000 + 10
    # Zhang et al., ICLR 2017, Table 1: MLP 3×512 and 1×512 on 28×28×3 have 1,735,178 and 1,209,866 parameters
    for hidden, params in ((3, 1_735_178), (1, 1_209_866)):
        network = zoo.find("mlp").build(width=512, hidden=hidden)
        assert analyze(network, (1, 3, 28, 28)).total.params == params


def test_ten_layers_of_width_two() -> None:
    found = report("deep-narrow")
    assert sum(row.kind == "Linear" for row in found) == 10
    assert sum(row.kind == "ReLU" for row in found) == 9
    # from 1 to 2, eight times from 2 to 2, from 2 to 1
    assert found.total.weights == found.total.macs == 2 + 8 * 4 + 2
    assert found.total.params == 36 + 9 * 2 + 1
    assert len(zoo.find("deep-narrow").build(depth=1)) == 2
