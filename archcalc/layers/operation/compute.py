"""Operations that compute: elementwise, reductions, matrix products, the weight of weight normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import ShapeError
from archcalc.extents import Extent, Shape, differ, prod
from archcalc.layers.base import ANY, AXES, FACTORS, INPUT, OUTPUT, Layer, Made, elementwise
from archcalc.nest import Axis, Nest, Operand

Ops = tuple[tuple[str, int], ...]

_KEPT: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("add", "sub", "rsub", "neg", "floor", "ceil", "round", "trunc", "sign", "lerp", "cumsum"), ()),
    **dict.fromkeys(("sum", "mean"), ()),
    **dict.fromkeys(("mul", "mm", "bmm", "mv", "addmm", "baddbmm", "addmv"), (FACTORS,)),
    **dict.fromkeys(("sqrt", "rsqrt", "exp", "expm1", "exp2", "reciprocal", "tan"), (OUTPUT,)),
    **dict.fromkeys(("log", "log1p", "log2", "log10", "erf", "sin", "cos", "atan", "abs"), (INPUT,)),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max", "maximum", "minimum", "var"), (INPUT,)),
    **dict.fromkeys(("amax", "amin", "std", "linalg_vector_norm", "logsumexp", "prod"), (INPUT, OUTPUT)),
}
"""What backward of each operation reads again, measured; of others it is not stated."""

GRADLESS = {
    *("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "any", "all", "argmax", "argmin"),
    *(f"new_{what}" for what in ("zeros", "ones", "empty", "full")),
    *(f"{what}_like" for what in ("zeros", "ones", "empty", "full", "rand", "randn")),
}
"""Operations whose output has no gradient whatever flows in."""


@dataclass(frozen=True, slots=True)
class _Operation(Layer):
    op: str

    inputs: ClassVar[int | None] = ANY

    @property
    def kind(self) -> str:
        """Name of the operation."""
        return self.op


@dataclass(frozen=True, slots=True)
class Elementwise(_Operation):
    """An operation on every element of tensors that are broadcast against each other.

    >>> Elementwise("mul", (("mul", 1),)).output((1, 64, 1, 1), (1, 64, 7, 7))
    (1, 64, 7, 7)
    """

    ops: Ops = ()
    inplace: bool = False

    @property
    def in_place(self) -> bool:
        """Whether the first input is overwritten."""
        return self.inplace

    def keeps(self, *inputs: Shape) -> tuple[str, ...] | None:
        """As the operation; a division by a number and a power of one tensor differ from those of two."""
        if self.op in ("div", "pow") and len(inputs) == 1:
            return () if self.op == "div" else (INPUT,)
        return _KEPT.get(self.op)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """One visit of every element of the output."""
        return (elementwise(broadcast(*inputs), dict(self.ops)),)


@dataclass(frozen=True, slots=True)
class Reduce(_Operation):
    """An operation that takes some axes of a tensor together, and one on each result.

    >>> Reduce("mean", (("add", 1),), (2, 3), finish=(("div", 1),)).output((1, 512, 7, 7))
    (1, 512)
    """

    ops: Ops = ()
    dims: tuple[int, ...] = ()
    keepdim: bool = False
    finish: Ops = ()

    local: ClassVar[bool] = False

    def keeps(self, *inputs: Shape) -> tuple[str, ...] | None:
        """As the operation."""
        return _KEPT.get(self.op)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """One visit of every element of the input, then one of every result."""
        x = inputs[0]
        dims = {dim % len(x) for dim in self.dims} if x else set()
        letters = AXES.get(len(x)) or tuple(f"D{i}" for i in range(len(x)))
        kept: list[Axis] = []
        for i, letter in enumerate(letters):
            if i not in dims:
                kept.append((letter,))
            elif self.keepdim:
                kept.append(())
        axes = tuple((letter,) for letter in letters)
        operands = (Operand("input", "input", axes), Operand("output", "output", tuple(kept)))
        total = Nest(dict(zip(letters, x, strict=True)), dict(self.ops), operands)
        return (total, elementwise(total.output, dict(self.finish))) if self.finish else (total,)


@dataclass(frozen=True, slots=True)
class MatMul(_Operation):
    """A product of matrices, one for each index of the leading axes: N·M·K·C multiply-accumulates.

    With `added` a first input is added to every element of the product, and `scaled` multiplications are made of each.

    >>> MatMul("bmm").nests((12, 197, 64), (12, 64, 197))[0].iterations
    29805312
    """

    added: bool = False
    scaled: int = 0

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = (FACTORS,)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The product, and for each element an addition where there is something to add, and what it is scaled by."""
        a, b = inputs[-2:]
        rows, columns = (("M",),) if len(a) > 1 else (), (("K",),) if len(b) > 1 else ()
        batch = tuple(f"B{i}" if i else "N" for i in range(len(a) - 2))
        inner = b[-2] if columns else b[-1]
        if differ(a[-1], inner):
            raise ShapeError(f"the inner sizes of a matrix product must be equal, not {a[-1]} and {inner}")
        if any(map(differ, a[:-2], b[:-2])):
            raise ShapeError(f"matrices are multiplied in pairs, not {a[0]} with {b[0]}")
        leading = tuple((letter,) for letter in batch)
        loops: dict[str, Extent] = dict(zip(batch, a, strict=False))
        loops |= {"M": a[-2]} if rows else {}
        loops |= {"K": b[-1]} if columns else {}
        loops["C"] = a[-1]
        operands = (
            Operand("input", "input", (*leading, *rows, ("C",))),
            Operand("other", "input", (*(leading if len(b) > 2 else ()), ("C",), *columns)),
            Operand("output", "output", (*leading, *rows, *columns)),
        )
        product = Nest(loops, {"mac": 1}, operands)
        each = {"add": int(self.added), "mul": self.scaled}
        finish = {op: times for op, times in each.items() if times}
        return (product, elementwise(product.output, finish)) if finish else (product,)


class GroupedMatMul(MatMul):
    """Rows in groups, those of each multiplied with its own matrix: M·K·C multiply-accumulates whatever the groups.

    >>> GroupedMatMul("_grouped_mm").nests((32, 64), (4, 64, 128), (4,))[0].iterations
    262144
    """

    __slots__ = ()

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The product."""
        return MatMul.nests(self, *inputs[:2])


@dataclass(frozen=True, slots=True)
class WeightNorm(_Operation):
    """A weight as direction and length, w = g·v/‖v‖ along one axis (Salimans & Kingma 2016, equation 2).

    >>> [nest.iterations for nest in WeightNorm("weight_norm").nests((8, 3, 5), (8, 1, 1))]
    [120, 8, 120]
    """

    dim: int = 0

    local: ClassVar[bool] = False

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The sums of squares; of each the root, and the length divided by it; the products."""
        v = inputs[0]
        others = tuple(axis for axis in range(len(v)) if axis != self.dim)
        squares, roots = Reduce("norm", (("mul", 1), ("add", 1)), others, True, (("sqrt", 1), ("div", 1))).nests(v)
        return squares, roots, elementwise(v, {"mul": 1})

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """Both tensors, and the roots."""
        return INPUT, Made("roots", prod(inputs[1]), "single")


def broadcast(*shapes: Shape) -> Shape:
    """The shape that tensors of these shapes have in common (NumPy's rule), of numbers (). Raises ShapeError."""
    rank = max(map(len, shapes), default=0)
    result: list[Extent] = []
    for axis in range(-rank, 0):
        extents = [shape[axis] for shape in shapes if len(shape) >= -axis]
        large = [extent for extent in extents if not (type(extent) is int and extent == 1)]
        if any(differ(extent, large[0]) for extent in large[1:]):
            raise ShapeError(f"tensors cannot be broadcast: {' and '.join(map(str, extents))} on one axis")
        result.append(large[0] if large else 1)
    return tuple(result)
