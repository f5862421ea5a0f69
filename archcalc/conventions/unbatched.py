"""Layers on an image without a batch axis: they run as functions, but tools that hook modules see the module."""

from __future__ import annotations

from dataclasses import dataclass

from archcalc.analysis import Row
from archcalc.conventions.base import functions, modules, same_call
from archcalc.extents import Shape

_FUNCTIONS = {
    **{f"torch.nn.Conv{rank}d": f"conv{rank}d" for rank in (1, 2, 3)},
    **{f"torch.nn.ConvTranspose{rank}d": f"conv_transpose{rank}d" for rank in (1, 2, 3)},
    **{f"torch.nn.InstanceNorm{rank}d": "functional.instance_norm" for rank in (1, 2, 3)},
    **{
        f"torch.nn.{name}Pool{rank}d": f"functional.{function}_pool{rank}d"
        for name, function in {
            **{"Max": "max", "Avg": "avg"},
            **{"AdaptiveMax": "adaptive_max", "AdaptiveAvg": "adaptive_avg"},
        }.items()
        for rank in (1, 2, 3)
    },
    "torch.nn.AvgPool1d": "avg_pool1d",
    "torch.nn.AdaptiveAvgPool1d": "adaptive_avg_pool1d",
}
_BEFORE = {"functional.pad", "Tensor.unsqueeze"}
"""Functions that a module calls on its input before its own."""


@dataclass(frozen=True)
class Seen:
    """The class of a layer on an image without a batch, and the shapes that go in and come out: channels first."""

    module: str
    given: Shape
    output: Shape


def unbatched(row: Row) -> Seen | None:
    """The layer that a row computes, where it runs on an image without a batch axis; else None."""
    name = modules(row)[-1]
    if functions(row) != (_FUNCTIONS.get(name),) or not row.ledger or not row.sources:
        return None
    rank = int(name[-2])
    given, output = _given(row), row.output
    if len(given) != rank + 1:
        return None
    channels = output[1 if functions(row)[0].startswith("conv") or "Norm" in name else 0]
    return Seen(name, given, (channels, *output[len(output) - rank :]))


def axes(row: Row) -> tuple[Shape, Shape]:
    """The shapes that go into the module of a row and come out, without a batch or with one."""
    alone = unbatched(row)
    return (alone.given, alone.output) if alone else (row.inputs[0], row.output)


def _given(row: Row) -> Shape:
    """The shape of what the module of a row was called with."""
    source = row
    while functions(source) == functions(row) or (functions(source) and functions(source)[0] in _BEFORE):
        before = source.sources[0]
        if not _same_module(before, row) or (functions(before) == functions(row) and not same_call(before, row)):
            return source.inputs[0]
        source = before
    return source.output


def _same_module(one: Row, other: Row) -> bool:
    return bool(functions(one)) and one.node.blocks == other.node.blocks
