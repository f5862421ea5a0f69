"""ViT-B/16 against the paper, torchvision and its trace."""

from __future__ import annotations

import torch
from torchvision.models import vit_b_16

from archcalc import analyze, zoo
from archcalc.pytorch.build import build
from archcalc.pytorch.trace import trace


def test_vit_b_16() -> None:
    found = analyze(zoo.vit_b_16())
    # torchvision ViT_B_16_Weights.IMAGENET1K_V1.meta: num_params 86,567,656, _ops 17.564; the paper's Table 1: 86M
    assert found.total.params == 86_567_656
    assert round(found.total.macs / 10**9, 3) == 17.564
    with torch.device("meta"):
        module = vit_b_16()
    traced = analyze(trace(module, (1, 3, 224, 224))).total
    ours = found.total
    assert (ours.weights, ours.biases, ours.macs) == (traced.weights, traced.biases, traced.macs)
    mine, theirs = dict(ours.ledger), dict(traced.ledger)
    # torch adds the biases of the maps to queries, keys and values within the products
    assert mine.pop("add") + mine.pop("bias_add") == theirs.pop("add") + theirs.pop("bias_add")
    assert mine == theirs
    # 14·14 patches and the class
    assert found["layer11.add2"].output == (1, 197, 768)


def test_the_module_that_is_built_costs_the_same() -> None:
    traced = analyze(trace(build(zoo.vit_b_16(), device="meta"), (1, 3, 224, 224))).total
    ours = analyze(zoo.vit_b_16()).total
    assert (ours.weights, ours.biases, ours.macs) == (traced.weights, traced.biases, traced.macs)
