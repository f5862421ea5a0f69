"""Bytes that layers read and write: by arithmetic, and against the tensors of real modules."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from archcalc import Network, analyze, roofline, trace, zoo
from archcalc.errors import UnknownNameError
from archcalc.graph import Builder
from archcalc.layers import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Embedding,
    Flatten,
    Identity,
    Layer,
    Linear,
    ReLU,
)
from archcalc.pytorch.build import build
from archcalc.roofline import Ceilings, Limit, Traffic, intensity, traffic
from tests.conftest import Shell


def of(layer: Layer, shape: tuple[int, ...], dtype: str = "float32") -> Traffic:
    report = analyze(Network.sequential("net", shape, [layer]))
    return traffic(report.rows[-1], dtype)


@pytest.mark.parametrize(
    ("layer", "shape", "read", "written"),
    [
        # input 3·8·8 = 192, weights 3·3·3·4 = 108, biases 4; output 4·8·8 = 256
        (Conv2d(4, 3, padding=1), (1, 3, 8, 8), 192 + 108 + 4, 256),
        # weights are read once for the whole batch: 2·5 + 5·7 + 7; 2·7
        (Linear(7), (2, 5), 10 + 35 + 7, 14),
        # scale, shift, running mean and variance of 3 channels; the counter of batches is not read
        (BatchNorm2d(), (1, 3, 4, 4), 48 + 4 * 3, 48),
        (ReLU(), (1, 3, 4, 4), 48, 48),
        (ReLU(inplace=True), (1, 3, 4, 4), 48, 48),
        (AvgPool2d(2), (1, 3, 4, 4), 48, 12),
        (Flatten(), (1, 3, 4, 4), 0, 0),
        (Dropout(), (1, 3, 4, 4), 0, 0),
        (Identity(), (1, 3, 4, 4), 0, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Layer) else None,
)
def test_elements_read_and_written(layer: Layer, shape: tuple[int, ...], read: int, written: int) -> None:
    assert of(layer, shape) == (4 * read, 4 * written)
    assert of(layer, shape, "bfloat16") == (2 * read, 2 * written)
    assert of(layer, shape, "float64").bytes == 8 * (read + written)


def test_what_flows_in_twice_is_read_once() -> None:
    net = Builder("net", (1, 2, 4, 4))  # 32 elements
    image = net.last
    net.add(ReLU(), "relu")
    net.add(Add(), "two", after=(net.last, image))
    net.add(Add(), "one", after=("relu", "relu"))
    net.add(Concat(), "joined", after=("one", "two"))
    report = analyze(net.network())
    assert traffic(report["two"]) == (4 * 64, 4 * 32)
    assert traffic(report["one"]) == (4 * 32, 4 * 32)
    assert traffic(report["joined"]) == (4 * 64, 4 * 64)
    assert traffic(report["input"]) == (0, 0)


def test_an_embedding_reads_the_rows_that_its_ids_can_name() -> None:
    # 12 ids of 8 bytes, 12 rows of 32 numbers of 100; of 5 rows no more than 5
    assert of(Embedding(100, 32), (1, 12)) == (12 * 8 + 12 * 32 * 4, 12 * 32 * 4)
    assert of(Embedding(5, 32), (1, 12)) == (12 * 8 + 5 * 32 * 4, 12 * 32 * 4)


def test_weights_that_flow_in_are_read_once() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(7, 5))

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(x, self.weight)

    report = analyze(trace(Own(), (2, 5)))
    assert sum(traffic(row).bytes for row in report) == 4 * (10 + 35 + 14)


def test_intensity_of_vgg_by_hand() -> None:
    # conv1_1: (3·224² + 1728 + 64 + 64·224²)·4 = 13,454,336 bytes for 1728·224² = 86,704,128 MACs
    report = analyze(zoo.vgg19())
    assert traffic(report["conv1_1"]).bytes == 13_454_336
    assert intensity(report["conv1_1"]) == 86_704_128 / 13_454_336
    assert intensity(report["relu1_1"]) == 0
    assert intensity(report["flatten"]) is None


def test_a_closed_form_gives_the_same_bytes() -> None:
    sympy = pytest.importorskip("sympy")
    letters, numbers = analyze(zoo.vgg19(), ("N", 3, "H", "W")), analyze(zoo.vgg19(), (2, 3, 64, 96))
    values = {"N": 2, "H": 64, "W": 96}
    for row in letters.rows[:20]:
        found = sympy.sympify(traffic(row).bytes)
        assert found.subs({one: values[one.name] for one in found.free_symbols}) == traffic(numbers[row.name]).bytes


def test_an_unknown_dtype_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown dtype 'float31'; did you mean 'float32'"):
        of(ReLU(), (1, 2), "float31")


NETWORKS = ("resnet18", "vgg11", "squeezenet", "mobilenet-v2", "densenet121", "googlenet", "alexnet", "lenet5")


@pytest.mark.parametrize("name", [name for name in NETWORKS if name in zoo.ENTRIES])
def test_bytes_are_those_of_the_tensors_of_a_real_module(name: str) -> None:
    network = zoo.ENTRIES[name].build()
    report = analyze(network)
    module = build(network, report.input, device="meta").eval()
    seen: dict[str, int] = {}

    def hook(path: str) -> Any:
        def count(part: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if (output is args[0] or output._is_view()) and not getattr(part, "inplace", False):
                seen[path] = 0
                return
            held = [one for key, one in part.state_dict().items() if "num_batches" not in key]
            tensors = [*{id(one): one for one in args}.values(), *held, output]
            seen[path] = sum(one.nbytes for one in tensors)

        return count

    for path, part in module.named_modules():
        if not any(True for _ in part.children()):
            part.register_forward_hook(hook(path))
    with torch.no_grad():
        module(torch.empty(report.input, device="meta"))
    assert len(seen) > 10
    assert {row.name: traffic(row).bytes for row in report if row.sources} == seen


CEILINGS = Ceilings(macs_per_second=1e9, bytes_per_second=1e8, launch=1e-5)


@pytest.mark.parametrize(
    ("macs", "nbytes", "limit"),
    [
        (5_000_000, 100_000, Limit(0.005, "compute")),  # 5 ms, 1 ms, 10 µs
        (500_000, 100_000, Limit(0.001, "memory")),  # 0.5 ms, 1 ms
        (0, 100_000, Limit(0.001, "memory")),
        (1000, 100, Limit(1e-5, "launch")),  # 1 µs, 1 µs, 10 µs
        (0, 0, Limit(0.0, None)),
    ],
)
def test_the_lowest_ceiling_binds(macs: int, nbytes: int, limit: Limit) -> None:
    assert CEILINGS.limit(macs, nbytes) == limit


def test_the_ridge_is_where_both_ceilings_meet() -> None:
    # 10^9 MAC/s over 10^8 B/s
    assert CEILINGS.ridge == 10.0
    at_ridge = CEILINGS.limit(10**7, 10**6)
    assert math.isclose(at_ridge.seconds, 10**6 / 1e8)


def test_layers_one_after_the_other_take_the_sum_and_the_longest_names_the_ceiling() -> None:
    report = analyze(Network.sequential("net", (1, 1000), [ReLU(), Linear(1000), Flatten()]))
    # ReLU: 8,000 bytes: 80 µs. Linear: 10^6 MACs: 1 ms; (1000 + 10^6 + 1000 + 1000)·4 bytes: 40.12 ms
    found = CEILINGS.limit_of(report.rows, "float32")
    assert found == Limit(8000 / 1e8 + 4_012_000 / 1e8, "memory")
    assert CEILINGS.limit_of((), "float32") == Limit(0.0, None)


# The command line: counts alone


def test_the_table_sums_its_rows(shell: Shell) -> None:
    record = shell("roofline", "resnet18", "--counts", "--batch", "2", "--format", "json").data
    assert record["schema"] == roofline.SCHEMA
    assert record["input"] == [2, 3, 224, 224]
    for name in ("macs", "bytes_read", "bytes_written"):
        assert record["total"][name] == sum(layer[name] for layer in record["layers"])
    last = shell.ok("roofline", "resnet18", "--counts", "--batch", "2", "--format", "csv").splitlines()[-1]
    total = record["total"]
    assert last.startswith(f"total,,{total['macs']},{total['bytes_read']},{total['bytes_written']},")


def test_counts_may_have_letters(shell: Shell) -> None:
    layer = shell("roofline", "vgg19", "--counts", "--batch", "N", "--format", "json").data["layers"][1]
    # 64·224² numbers of 4 bytes an image
    assert (layer["name"], layer["macs"], layer["bytes_written"]) == ("conv1_1", "86704128·N", "12845056·N")
