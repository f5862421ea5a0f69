"""Operations that run outside of any layer: elementwise, reductions, matrix products, views, bare parameters.

A traced module consists of layers and of these. Each is named by the operation it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Extent, Shape, differ, minimum, prod, same, surely
from archcalc.layers.base import ANY, AXES, FACTORS, INPUT, OUTPUT, Layer, Made, elementwise
from archcalc.nest import Axis, Nest, Operand, Role

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

_MOVED = {
    *("clone", "copy", "_to_copy", "roll", "flip", "rot90", "stack", "repeat", "tril", "triu", "cat", "im2col"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
}
"""Operations on recorded data whose backward needs none of it."""

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


class _View(_Operation):
    __slots__ = ()

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    @property
    def in_place(self) -> bool:
        """The same memory."""
        return True


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
    """A product of matrices, one for each index of the leading axes: N·P·K·C multiply-accumulates.

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
        rows, columns = (("P",),) if len(a) > 1 else (), (("K",),) if len(b) > 1 else ()
        batch = tuple(f"B{i}" if i else "N" for i in range(len(a) - 2))
        inner = b[-2] if columns else b[-1]
        if differ(a[-1], inner):
            raise ShapeError(f"the inner sizes of a matrix product must be equal, not {a[-1]} and {inner}")
        leading = tuple((letter,) for letter in batch)
        loops: dict[str, Extent] = dict(zip(batch, a, strict=False))
        loops |= {"P": a[-2]} if rows else {}
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
    """Rows in groups, those of each multiplied with its own matrix: P·K·C multiply-accumulates whatever the groups.

    >>> GroupedMatMul("_grouped_mm").nests((32, 64), (4, 64, 128), (4,))[0].iterations
    262144
    """

    __slots__ = ()

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The product."""
        return MatMul.nests(self, *inputs[:2])


@dataclass(frozen=True, slots=True)
class Reshape(_View):
    """The same elements under other axes: runs of input axes merged, or split into sizes that are baked in.

    `groups` pairs runs of input axes with the output sizes they become. Raises ShapeError where a run that is split
    has another number of elements than was seen.

    >>> Reshape("view", (((0,), (1,)), ((1, 2, 3), (25088,)))).output((8, 512, 7, 7))
    (8, 25088)
    """

    groups: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The input's axes merged and split."""
        x = inputs[0]
        sizes: list[Extent] = []
        for axes, into in self.groups:
            whole = prod(x[axis] for axis in (*axes[1:], *axes[:1]))
            if len(into) != 1 and not same(whole, prod(into)):
                raise ShapeError(
                    f"the size of {self.op} is baked in: {whole} cannot be {'×'.join(map(str, into)) or 1}"
                )
            sizes += [whole] if len(into) == 1 else into
        return tuple(sizes)


@dataclass(frozen=True, slots=True)
class Permute(_View):
    """The axes in another order.

    >>> Permute("permute", (0, 2, 3, 1)).output((1, 96, 56, 56))
    (1, 56, 56, 96)
    """

    dims: tuple[int, ...] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The extents in the order of `dims`."""
        return tuple(inputs[0][dim] for dim in self.dims)


@dataclass(frozen=True, slots=True)
class Slice(_View):
    """Every step-th position of an axis from start to before stop, counted from the end where they are negative.

    >>> Slice("slice", 2, stop=None, step=2).output((1, 96, 7, 7))
    (1, 96, 4, 7)
    """

    dim: int = 0
    start: int = 0
    stop: int | None = None
    step: int = 1

    def output(self, *inputs: Shape) -> Shape:
        """The input's shape, one axis shorter in length."""
        (x,) = inputs
        dim = self.dim % len(x)
        whole = x[dim]
        start = minimum(self.start, whole) if self.start >= 0 else whole + self.start
        stop = whole if self.stop is None else minimum(self.stop, whole) if self.stop >= 0 else whole + self.stop
        return (*x[:dim], (stop - start + self.step - 1) // self.step, *x[dim + 1 :])


@dataclass(frozen=True, slots=True)
class Select(_View):
    """One position of an axis, which is gone then.

    >>> Select("select", 1).output((1, 197, 768))
    (1, 768)
    """

    dim: int = 0

    def output(self, *inputs: Shape) -> Shape:
        """The input's shape without the axis."""
        dim = self.dim % len(inputs[0])
        return (*inputs[0][:dim], *inputs[0][dim + 1 :])


@dataclass(frozen=True, slots=True)
class Part(_View):
    """A part of a tensor whose size along some axes is given; None keeps the input's.

    >>> Part("split", (None, 58, None, None)).output((1, 116, 28, 28))
    (1, 58, 28, 28)
    """

    sizes: tuple[int | None, ...] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The given sizes. Raises ShapeError where the input has fewer."""
        x = inputs[0]
        if any(size is not None and surely(extent < size) for extent, size in zip(x, self.sizes, strict=True)):
            wanted = "×".join("any" if size is None else str(size) for size in self.sizes)
            raise ShapeError(f"{self.op} takes {wanted}, which is not in it")
        return tuple(extent if size is None else size for extent, size in zip(x, self.sizes, strict=True))


@dataclass(frozen=True, slots=True)
class Pad(_Operation):
    """Positions added to axes, or taken off where they are negative: how many altogether for each axis.

    >>> Pad("constant_pad_nd", (0, 0, 1, 1)).output((1, 3, 224, 224))
    (1, 3, 225, 225)
    """

    added: tuple[int, ...] = ()

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The input's shape with what is added."""
        return tuple(extent + more for extent, more in zip(inputs[0], self.added, strict=True))


@dataclass(frozen=True, slots=True)
class Recorded(_Operation):
    """An operation that moves data, known only as it was seen: the shapes that came in and the shape that went out."""

    given: tuple[Shape, ...] = ()
    shape: Shape = ()
    view: bool = False
    copied: int = -1
    """Index of the input whose shape the output has whatever it is; -1 where the output's size is baked in."""

    local: ClassVar[bool] = False

    @property
    def in_place(self) -> bool:
        """Whether it is a view."""
        return self.view

    def keeps(self, *inputs: Shape) -> tuple[str, ...] | None:
        """Nothing where it is a view or a copy."""
        return () if self.view or self.op in _MOVED else None

    def output(self, *inputs: Shape) -> Shape:
        """The shape seen. Raises ShapeError for other inputs than those seen."""
        if self.copied >= 0:
            return inputs[self.copied]
        same_as_seen(self.op, inputs, self.given)
        return self.shape


@dataclass(frozen=True, slots=True)
class Scattered(Recorded):
    """Each element of one input, by default the last, is taken together with the output's element that an index says.

    >>> Scattered("index_add", copied=0, ops=(("add", 1),)).nests((8, 64), (20,), (20, 64))[0].iterations
    1280
    """

    ops: Ops = ()
    source: int = -1

    def keeps(self, *inputs: Shape) -> None:
        """It is not stated."""

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """One visit of every element that is put somewhere; the output that it makes."""
        return elementwise(inputs[self.source], dict(self.ops)), elementwise(self.output(*inputs), {})


@dataclass(frozen=True, slots=True)
class Bags(Recorded):
    """Rows of a table, looked up by L ids and taken together bag by bag; each is multiplied where ids are weighted.

    >>> shapes = (1000, 64), (20,), (2,)
    >>> Bags("embedding_bag", shapes, (2, 64), ops=(("add", 1),)).nests(*shapes)[0].iterations
    1280
    """

    ops: Ops = ()
    finish: Ops = ()

    def keeps(self, *inputs: Shape) -> None:
        """It is not stated."""

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """One visit of every number of the row of every id; the output, of a mean with a division."""
        table, ids = inputs[:2]
        return elementwise((*ids, table[-1]), dict(self.ops)), elementwise(self.output(*inputs), dict(self.finish))


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


class Uncounted(Recorded):
    """An operation there is no rule for."""

    __slots__ = ()

    counted: ClassVar[bool] = False

    def keeps(self, *inputs: Shape) -> None:
        """It is not known."""


@dataclass(frozen=True, slots=True)
class Functional(Layer):
    """A layer whose weights flow in from elsewhere, as in torch.nn.functional: its costs without its parameters."""

    layer: Layer

    inputs: ClassVar[int | None] = ANY

    @property
    def kind(self) -> str:
        """The layer's kind."""
        return self.layer.kind

    @property
    def in_place(self) -> bool:
        """As the layer."""
        return self.layer.in_place

    @property
    def trains_in_place(self) -> bool:
        """As the layer."""
        return self.layer.trains_in_place

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...] | None:
        """As the layer, its weights among the inputs."""
        return self.layer.keeps(inputs[0])

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The layer's nests, its parameters as inputs."""
        nests = self.layer.nests(inputs[0])
        weights = [nest.shape(operand) for nest in nests for operand in nest.operands if operand.role == "weight"]
        if weights and (len(weights[0]) != len(inputs[1]) or not all(map(same, weights[0], inputs[1]))):
            raise ShapeError(f"its weight is {inputs[1]} but would have to be {weights[0]}")
        return tuple(nest._replace(operands=tuple(_flowing(operand) for operand in nest.operands)) for nest in nests)

    def output(self, *inputs: Shape) -> Shape:
        """The layer's output."""
        return self.layer.output(inputs[0])


@dataclass(frozen=True, slots=True)
class Unbatched(Layer):
    """A layer of images on one image, without the axis of the batch.

    >>> from archcalc.layers import MaxPool2d
    >>> Unbatched(MaxPool2d(2)).output((64, 8, 8))
    (64, 4, 4)
    """

    layer: Layer

    local: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """The layer's kind."""
        return self.layer.kind

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...] | None:
        """As the layer."""
        return self.layer.keeps((1, *inputs[0]))

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The layer's, without the loop over the batch."""
        return tuple(map(_without_batch, self.layer.nests((1, *inputs[0]))))


@dataclass(frozen=True, slots=True)
class Baked(Layer):
    """A layer whose output size was computed from the input's while it was traced, and holds for that input only."""

    layer: Layer
    given: tuple[Shape, ...]

    @property
    def kind(self) -> str:
        """The layer's kind."""
        return self.layer.kind

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The layer's nests. Raises ShapeError for other inputs than those seen."""
        same_as_seen(self.kind, inputs, self.given)
        return self.layer.nests(*inputs)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...] | None:
        """As the layer."""
        return self.layer.keeps(*inputs)


@dataclass(frozen=True, slots=True)
class Parameter(Layer):
    """A tensor that a module holds outside of its layers: a bare parameter, a buffer."""

    shape: tuple[int, ...]
    role: Role = "weight"

    inputs: ClassVar[int | None] = 0
    kept: ClassVar[tuple[str, ...]] = ()

    @property
    def kind(self) -> str:
        """Parameter or Buffer."""
        return "Buffer" if self.role == "buffer" else "Parameter"

    @property
    def in_place(self) -> bool:
        """It is there already."""
        return True

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """No work; the loops are the axes."""
        return (_idle("tensor", self.role, self.shape),)


@dataclass(frozen=True, slots=True)
class Constant(Layer):
    """A tensor that is made in passing and holds no parameters."""

    shape: tuple[int, ...]

    inputs: ClassVar[int | None] = 0
    kept: ClassVar[tuple[str, ...]] = ()

    def output(self, *inputs: Shape) -> Shape:
        """Its shape."""
        return self.shape


@dataclass(frozen=True, slots=True)
class Unused(Layer):
    """The parameters and buffers of a module that did not run: name, role and shape of each."""

    module: str
    tensors: tuple[tuple[str, Role, tuple[int, ...]], ...]

    inputs: ClassVar[int | None] = 0

    @property
    def kind(self) -> str:
        """The module's class, marked."""
        return f"{self.module}, unused"

    @property
    def in_place(self) -> bool:
        """Nothing is written."""
        return True

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """No work: one nest without operations a tensor."""
        idle = (_idle(*tensor) for tensor in self.tensors)
        return tuple(nest._replace(operands=(nest.operands[0], Operand("output", "output", ()))) for nest in idle)


def _idle(name: str, role: Role, shape: tuple[int, ...]) -> Nest:
    """A nest that does nothing but hold a tensor, which it puts out."""
    letters = tuple(f"D{i}" for i in range(len(shape)))
    axes = tuple((letter,) for letter in letters)
    operands = (Operand(name, role, axes), Operand("output", "output", axes))
    return Nest(dict(zip(letters, shape, strict=True)), {}, operands)


def same_as_seen(op: str, inputs: tuple[Shape, ...], seen: tuple[Shape, ...]) -> None:
    """Raise ShapeError where an operation gets other shapes than those it was traced on."""
    for x, given in zip(inputs, seen, strict=True):
        if len(x) != len(given) or not all(map(same, x, given)):
            raise ShapeError(f"the size of {op} is baked in: it was traced on {'×'.join(map(str, given))} only")


def broadcast(*shapes: Shape) -> Shape:
    """The shape that tensors of these shapes have in common (NumPy's rule). Raises ShapeError."""
    rank = max(map(len, shapes))
    result: list[Extent] = []
    for axis in range(-rank, 0):
        extents = [shape[axis] for shape in shapes if len(shape) >= -axis]
        large = [extent for extent in extents if not (type(extent) is int and extent == 1)]
        if any(differ(extent, large[0]) for extent in large[1:]):
            raise ShapeError(f"tensors cannot be broadcast: {' and '.join(map(str, extents))} on one axis")
        result.append(large[0] if large else 1)
    return tuple(result)


def regrouped(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """How the axes of a view relate to those of the tensor: the shortest runs with equal numbers of elements.

    Raises SpecError where the numbers of elements differ, or where an axis of one element between others could have
    been merged with either neighbour.

    >>> regrouped((2, 512, 7, 7), (2, 25088))
    (((0,), (2,)), ((1, 2, 3), (25088,)))
    """
    groups: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        axes, sizes = [i] if i < len(before) else [], [after[j]] if j < len(after) else []
        i, j = i + len(axes), j + len(sizes)
        have, want = prod(before[axis] for axis in axes), prod(sizes)
        while have != want:
            if have < want and i < len(before):
                have, axes, i = have * before[i], [*axes, i], i + 1
            elif want < have and j < len(after):
                want, sizes, j = want * after[j], [*sizes, after[j]], j + 1
            else:
                raise SpecError(f"a view of {before} cannot be {after}")
        if groups and not (axes and sizes):  # trailing axes of one element belong to the run before them
            axes, sizes = [*groups[-1][0], *axes], [*groups.pop()[1], *sizes]
        groups.append((tuple(axes), tuple(sizes)))
    for merged, _ in groups:
        if len(merged) > 1 and any(before[axis] == 1 and 0 < axis < len(before) - 1 for axis in merged):
            if all(before[axis] == 1 for axis in range(merged[1], len(before))):
                continue
            raise SpecError(f"a view of {before} as {after} can be read in several ways")
    return tuple(groups)


def _without_batch(nest: Nest) -> Nest:
    operands = tuple(
        operand._replace(axes=tuple(axis for axis in operand.axes if axis != ("N",))) for operand in nest.operands
    )
    return nest._replace(
        loops={letter: size for letter, size in nest.loops.items() if letter != "N"}, operands=operands
    )


def _flowing(operand: Operand) -> Operand:
    return operand if operand.role == "output" else operand._replace(role="input")
