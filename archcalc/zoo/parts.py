"""Pieces that several families are put together from."""

from __future__ import annotations

from collections.abc import Sequence

from archcalc.graph import Builder
from archcalc.layers import Dropout, Flatten, Linear, ReLU


def classifier(
    net: Builder,
    classes: int,
    *,
    bias: bool = True,
    widths: Sequence[int] = (4096, 4096),
    dropout_first: bool = False,
) -> None:
    """The fully connected layers fc6, fc7, fc8 of AlexNet and of those that follow it, as the block `classifier`.

    Dropout comes after the first two, or, as torchvision's AlexNet has it, before them.
    """
    with net.block("classifier", prefix=False):
        net.add(Flatten(), "flatten")
        for index, width in enumerate(widths, start=6):
            if dropout_first:
                net.add(Dropout(0.5), f"drop{index}")
            net.add(Linear(width, bias=bias), f"fc{index}")
            net.add(ReLU(inplace=True), f"relu{index}")
            if not dropout_first:
                net.add(Dropout(0.5), f"drop{index}")
        net.add(Linear(classes, bias=bias), f"fc{6 + len(widths)}")
