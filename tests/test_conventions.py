"""Conventions that are known from documents, by arithmetic and by the figures they were published with."""

import pytest

from archcalc import analyze, zoo
from archcalc.analysis import Report
from archcalc.conventions import CONVENTIONS, convention
from archcalc.errors import UnknownNameError
from archcalc.graph import Builder, Network
from archcalc.layers import Add, BatchNorm2d, Conv2d, LocalResponseNorm, MaxPool2d, ReLU


def total(report: Report, name: str) -> int:
    return sum(map(convention(name).count, report))


def chain(*layers: object) -> Report:
    return analyze(Network.sequential("net", (2, 3, 8, 8), layers))  # type: ignore[arg-type]


def test_every_convention_says_what_it_is() -> None:
    for name, one in CONVENTIONS.items():
        assert one.name == name
        assert one.header
        assert one.meaning
        assert one.source
        assert one.params
        assert one.activations
        assert one.units
        assert len({cause.name for cause in one.causes}) == len(one.causes)


def test_unknown_conventions_are_refused_with_the_choices() -> None:
    with pytest.raises(UnknownNameError, match="unknown convention 'kera'; did you mean 'keras'"):
        convention("kera")


def test_convnet_burden() -> None:
    # 2 images, 4 channels, 6·6 outputs of 3·3·3 weights: 2·4·36 = 288 outputs, 27 MACs each; bias 1, ReLU 2 each;
    # a pool of 3·3 outputs and stride 2: 2·4·9 = 72 outputs, 2·2·2 each
    report = chain(Conv2d(4, 3), ReLU(), MaxPool2d(2, 2))
    assert total(report, "convnet-burden") == 288 * 27 + 288 + 2 * 288 + 72 * 8
    # 2·3·8·8 = 384 elements, and 2 + 2·3 at each of 2·64 positions
    assert total(chain(LocalResponseNorm(5)), "convnet-burden") == 384 + 8 * 128
    assert total(chain(BatchNorm2d()), "convnet-burden") == 0
    net = Builder("net", (2, 3, 8, 8))
    net.add(Add(), after=("input", "input"))
    assert total(analyze(net.network()), "convnet-burden") == 384


@pytest.mark.parametrize(
    ("network", "choices", "printed"),
    [
        # the reports of convnet-burden round to millions and to milliards: vgg-vd-16 16 G, vgg-vd-19 20 G
        ("vgg16", {}, 16),
        ("vgg19", {}, 20),
    ],
)
def test_what_convnet_burden_printed(network: str, choices: dict[str, object], printed: int) -> None:
    report = analyze(zoo.find(network).build(**choices))
    assert round(total(report, "convnet-burden") / 1e9) == printed


def test_netscope_counts_squares_of_the_response_norm() -> None:
    # the dump of bvlc_alexnet, batch 10: 14.52 M and 9.33 M for norm1 and norm2, 7.27 G in all
    report = analyze(zoo.alexnet(), (10, 3, 227, 227))
    count = convention("netscope").count
    assert [count(report[name]) for name in ("norm1", "norm2")] == [10 * 55 * 55 * 96 * 5, 10 * 27 * 27 * 256 * 5]
    assert round(total(report, "netscope") / 1e7) == 727


def test_keras_counts_moving_statistics() -> None:
    # Keras' application ResNet50 has 25,636,712 parameters, 53,120 of them not trained; its convolutions have biases,
    # of which PyTorch's has none: 26,560 outputs of convolutions
    report = analyze(zoo.resnet50(conv_bias=True))
    rule = convention("keras")
    assert sum(map(rule.count_params, report)) == 25_636_712
    added = [cause.amount(row) for cause in rule.param_causes for row in report]
    assert sum(added) == 53_120
    assert total(report, "keras") == report.total.macs
