"""GoogLeNet, the paper's and torchvision's, and MiniGoogLeNet against published figures and torchvision's module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import googlenet

from archcalc import Report, analyze, zoo
from archcalc.analysis import Total


def report(name: str, **choices: Any) -> Report:
    return analyze(zoo.find(name).build(**choices))


def block(found: Report, name: str) -> Total:
    return Total([row for row in found if name in row.node.blocks])


@pytest.mark.parametrize(
    ("name", "output", "ops"),
    [
        ("inception3a", (256, 28, 28), 128),
        ("inception3b", (480, 28, 28), 304),
        ("inception4a", (512, 14, 14), 73),
        ("inception4b", (512, 14, 14), 88),
        ("inception4c", (512, 14, 14), 100),
        ("inception4d", (528, 14, 14), 119),
        ("inception4e", (832, 14, 14), 170),
        ("inception5b", (1024, 7, 7), 71),
    ],
)
def test_the_modules_of_table_1(name: str, output: tuple[int, ...], ops: int) -> None:
    # Szegedy et al., arXiv 1409.4842, Table 1: output size, and ops in millions, some cut and some rounded up; its
    # 5a prints 54M and is left out: the printed filters give 51M
    found = report("googlenet")
    assert [row for row in found if name in row.node.blocks][-1].output == (1, *output)
    assert ops in (block(found, name).macs // 10**6, -(-block(found, name).macs // 10**6))


def test_the_papers_network() -> None:
    found = report("googlenet", bias=False)
    # the printed column's 6,798 K with its five errata corrected, in weights:
    # 7·7·3·64 = 9,408, 64·64 + 9·64·192 = 114,688, modules 163,328 + 388,096 + 375,552 + 448,512 + 509,440 + 604,672 +
    # 867,328 + 1,042,432 + 1,442,816, and 1,024·1,000
    modules = (163_328, 388_096, 375_552, 448_512, 509_440, 604_672, 867_328, 1_042_432, 1_442_816)
    assert found.total.weights == 9_408 + 114_688 + sum(modules) + 1_024_000 == 6_990_272
    # one bias for each output channel: 64 + 64 + 192, of each module its six widths, and 1,000
    widths = (368, 640, 624, 648, 664, 704, 1_024, 1_024, 1_264)
    total = report("googlenet").total
    assert total.biases == 320 + sum(widths) + 1_000 == 8_280
    assert total.params == 6_998_552
    # ops column summed, 1,502 M, of which the stem's 34 M are not those of a dense 7×7: 112²·9,408 = 118 M
    assert found["conv1"].macs == 112**2 * 9_408
    assert round(found.total.macs / 10**5) == 15_827
    # section 5: "22 layers deep when counting only layers with parameters"
    depth: dict[str, int] = {}
    for row in found:
        before = max((depth[name] for name in row.node.inputs), default=0)
        depth[row.name] = before + (row.kind in ("Conv2d", "Linear"))
    assert depth["fc"] == 22


def test_the_papers_auxiliary_heads() -> None:
    plain, found = report("googlenet"), report("googlenet", aux=True)
    # section 5: pooled to 4×4×512 and 4×4×528, 128 filters of 1×1, 1,024 units, 1,000 classes
    assert found["aux1.pool"].output == (1, 512, 4, 4)
    assert found["aux2.pool"].output == (1, 528, 4, 4)
    shared = 16 * 128 * 1_024 + 1_024 + 1_024 * 1_000 + 1_000
    assert block(found, "aux1").params == 512 * 128 + 128 + shared
    assert block(found, "aux2").params == 528 * 128 + 128 + shared
    assert found.total.params - plain.total.params == block(found, "aux1").params + block(found, "aux2").params
    assert found.output == plain.output == (1, 1000)


def test_torchvisions_googlenet() -> None:
    # torchvision GoogLeNet_Weights.IMAGENET1K_V1.meta: num_params 6,624,904, _ops 1.498
    total = report("googlenet-torchvision").total
    assert total.params == 6_624_904
    assert round(total.macs / 10**9, 3) == 1.498


def test_torchvisions_auxiliary_heads() -> None:
    with torch.device("meta"):
        module = googlenet(weights=None, init_weights=False).train()
        x = torch.empty(2, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        module(x)
    found = analyze(zoo.find("googlenet-torchvision").build(aux=True), (2, 3, 224, 224))
    assert found.total.params == sum(p.numel() for p in module.parameters()) == 13_004_888
    assert found.total.buffers == sum(b.numel() for b in module.buffers())
    assert 2 * found.total.macs == counter.get_total_flops()


def test_the_branch_called_5x5_by_torchvision_is_3x3() -> None:
    paper, theirs = report("googlenet"), report("googlenet-torchvision")
    assert paper["inception3a.conv5x5"].weights == 5 * 5 * 16 * 32
    assert theirs["inception3a.conv3x3_2"].weights == 3 * 3 * 16 * 32


def test_minigooglenet() -> None:
    # Zhang et al., ICLR 2017, Table 1: Inception without batch norm has 1,649,402 parameters
    found = report("minigooglenet", batch_norm=False)
    assert found.total.params == 1_649_402
    # with it a bias gives way to a weight and a bias for each of the 96 + 64 + 80 + 80 + 160 + 160 + 160 + 144 + 96 +
    # 336 + 336 = 1,712 channels
    assert report("minigooglenet").total.params == 1_649_402 + 1_712
    # Figure 3: 28×28, halved twice, and the mean of 7×7
    assert found["inception1b.concat"].output == (1, 80, 28, 28)
    assert found["downsample1.concat"].output == (1, 160, 14, 14)
    assert found["inception3b.concat"].output == (1, 336, 7, 7)
    assert found["avgpool"].output == (1, 336, 1, 1)
