"""Backward: which gradients a training step computes, and the multiply-accumulates they take, read off the nests.

A product C = A·B of forward is followed by one of the same size for dL/dA and one for dL/dB. Nothing asks for the
gradient of an image, so that the first layer computes that of its weights alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from archcalc.extents import Extent
from archcalc.layers.operation import GRADLESS, MatMul

if TYPE_CHECKING:
    from archcalc.analysis import Report, Row
    from archcalc.nest import Nest, Operand


def graded(report: Report) -> frozenset[str]:
    """Names of the layers whose output has a gradient: they, or one before them, have something that is trained."""
    names: set[str] = set()
    for row in report.rows:
        real = (row.node.dtype or "float").startswith(("float", "bfloat", "complex"))
        reached = any(source.name in names for source in row.sources) and row.kind not in GRADLESS
        if (reached and real) or any(True for _ in trained(row)):
            names.add(row.name)
    return frozenset(names)


def trained(row: Row) -> Iterator[tuple[Nest, Operand]]:
    """The weights and biases of a layer that are trained, each with the nest that reads it."""
    frozen = {held.name for held in row.node.held if not held.trained}
    for nest in row.nests:
        for operand in nest.operands:
            if operand.role in ("weight", "bias") and operand.name not in frozen:
                yield nest, operand


def backward_macs(row: Row, known: Collection[str]) -> Extent:
    """Multiply-accumulates of a layer's backward; `known` are the layers that `graded` names.

    For each nest of multiply-accumulates as many again for each of its tensors that has a gradient.

    >>> from archcalc import analyze, zoo
    >>> report = analyze(zoo.vgg19())
    >>> names = graded(report)
    >>> [backward_macs(report[name], names) // report[name].macs for name in ("conv1_1", "conv1_2")]
    [1, 2]
    """
    if row.name not in known:
        return 0
    own = {operand.name for _, operand in trained(row)}
    total: Extent = 0
    for index, nest in enumerate(nest for nest in row.nests if "mac" in nest.ops):
        weights = [operand for operand in nest.operands if operand.role == "weight"]
        inputs = [operand for operand in nest.operands if operand.role == "input"]
        gradients = sum(operand.name in own for operand in weights)
        if index == 0 or any(operand.name == "weight_ih_l0_reverse" for operand in weights):
            sources = row.sources[-2:] if isinstance(row.node.layer, MatMul) else row.sources
            gradients += sum(source.name in known for _, source in zip(inputs, sources, strict=False))
        else:  # what the layer itself has computed before
            gradients += len(inputs)
        if gradients:
            total = total + gradients * nest.ops["mac"] * nest.iterations
    return total
