"""Conventions: named projections of a layer's ledger onto one number, each with the causes that make it differ.

A convention counts `factor` for each MAC and adds what its causes say. The difference between two conventions is
therefore itemised by cause, to the last unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from archcalc.analysis import Row
from archcalc.extents import Extent, prod
from archcalc.layers import BatchNorm2d, Conv2d
from archcalc.names import unknown


@dataclass(frozen=True)
class Cause:
    """A reason why a convention counts more (or less) than MACs, and by how much on a given row."""

    name: str
    amount: Callable[[Row], Extent]


@dataclass(frozen=True)
class Convention:
    """A way of counting: `factor` for each MAC and what the causes add."""

    name: str
    header: str
    meaning: str
    source: str
    factor: int = 1
    causes: tuple[Cause, ...] = ()

    def count(self, row: Row) -> Extent:
        """The number of one row."""
        return sum((cause.amount(row) for cause in self.causes), start=self.factor * row.macs)


def _of(kind: str, amount: Callable[[Row], Extent]) -> Callable[[Row], Extent]:
    """An amount on rows of one kind, 0 on others."""
    return lambda row: amount(row) if row.kind == kind else 0


def _fvcore_batch_norm(row: Row) -> Extent:
    layer = getattr(row.node.layer, "layer", row.node.layer)
    assert isinstance(layer, BatchNorm2d)
    each = (2 if layer.affine else 1) if layer.track_running_stats else (5 if layer.affine else 4)
    return each * prod(row.output)


def _worded_padding(row: Row) -> Extent:
    layer = getattr(row.node.layer, "layer", row.node.layer)
    return -row.macs if isinstance(layer, Conv2d) and layer.padding == "same" else 0


CONVENTIONS = {
    convention.name: convention
    for convention in (
        Convention("mac", "MACs", "one multiply and one add together", "Sze et al. 2017, section 3.2"),
        Convention("flop", "FLOPs", "two for each MAC", "torch.utils.flop_counter", factor=2),
        Convention("torch", "MACs (torch)", "FlopCounterMode, halved", "torch.utils.flop_counter, torch 2.15"),
        Convention(
            "fvcore",
            "flops (fvcore)",
            "one for each MAC, and some normalisation and pooling",
            "fvcore.nn.jit_handles, 0.1.5.post20221221",
            causes=(
                Cause("batch norm, by element", _of("BatchNorm2d", _fvcore_batch_norm)),
                Cause(
                    "adaptive pooling, 1 an input element", _of("AdaptiveAvgPool2d", lambda row: prod(row.inputs[0]))
                ),
                Cause('padding="same" not seen', _of("Conv2d", _worded_padding)),
            ),
        ),
        Convention(
            "torchinfo",
            "mult-adds (torchinfo)",
            "parameters times output positions",
            "torchinfo.layer_info, 1.8.0",
            causes=(
                Cause("bias, 1 an output element", lambda row: row.ledger.get("bias_add", 0)),
                Cause(
                    "batch norm, its parameters once an image",
                    _of("BatchNorm2d", lambda row: row.output[0] * row.params),
                ),
            ),
        ),
    )
}
"""Every convention by name."""


def convention(name: str) -> Convention:
    """The convention of this name. Raises UnknownNameError with the choices."""
    try:
        return CONVENTIONS[name]
    except KeyError:
        raise unknown("convention", name, CONVENTIONS) from None
