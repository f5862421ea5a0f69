"""Attention, and how an image becomes tokens (Vaswani et al. 2017; Dosovitskiy et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import ShapeError
from archcalc.extents import Extent, Shape, differ, exact_div, prod, surely
from archcalc.layers.base import INPUT, Layer, Made, check_image, check_int, check_probability, check_rank
from archcalc.layers.conv import dense
from archcalc.layers.softmax import Softmax
from archcalc.nest import Axis, Nest, Operand, Window


@dataclass(frozen=True, slots=True)
class MultiheadAttention(Layer):
    """Self-attention in several heads, softmax(QKᵀ/√D)·V between two linear maps (`torch.nn.MultiheadAttention`).

    Weights 4·C², biases 4·C, MACs N·L·4·C² + 2·N·L²·C on tokens (N, L, C), or (L, N, C) without `batch_first`. What
    flows between its steps is not among the activations.

    >>> [nest.iterations for nest in MultiheadAttention(12).nests((197, 1, 768)) if "mac" in nest.ops]
    [348585984, 29805312, 29805312, 116195328]
    """

    num_heads: int
    dropout: float = 0.0
    bias: bool = True
    batch_first: bool = False

    inferred: ClassVar[dict[str, int]] = {"embed_dim": -1}
    local: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_int("num_heads", self.num_heads)
        check_probability("dropout", self.dropout)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Queries, keys and values of all tokens; scaled; their products; softmax; the values' sums; a last map.

        Queries and keys are each scaled by D^-1/4, as PyTorch does where it does not fuse the steps.
        """
        (x,) = inputs
        letters = "NL" if self.batch_first else "LN"
        check_rank(x, 3, ", ".join((*letters, "C")))
        tokens = dict(zip(letters, x[:2], strict=True))
        if differ(x[2] % self.num_heads, 0):
            raise ShapeError(f"channels in (={x[2]}) must be divisible by num_heads (={self.num_heads})")
        width = exact_div(x[2], self.num_heads)
        return tuple(self._steps(tokens, x[2], width))

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """Tokens in PyTorch's order, queries, keys, values, sums, and of each query the logarithm of its softmax's sum.

        Where it drops out PyTorch does not fuse the steps on the CPU: scaled queries and keys are kept then, and the
        softmax, its mask and their product instead of the logarithms.
        """
        (x,) = inputs
        N, L = x[:2] if self.batch_first else (x[1], x[0])
        moved = self.batch_first and N != 1 and L != 1
        tokens, pairs = prod(x), N * self.num_heads * L * L
        kept: tuple[str | Made, ...] = (Made("tokens", tokens) if moved else INPUT, Made("in_proj", 3 * tokens))
        kept += (Made("sums", tokens),)
        if not self.dropout:
            return *kept, Made("logarithms", N * self.num_heads * L, "single")
        mask = Made("mask", 1 if self.dropout == 1 else pairs)
        return *kept, Made("scaled", 2 * tokens), Made("softmax and product", 2 * pairs), mask

    def _steps(self, tokens: dict[str, Extent], C: Extent, width: Extent) -> Iterator[Nest]:
        N, L, heads = tokens["N"], tokens["L"], self.num_heads
        yield from self._linear("in_proj_", {**tokens, "three": 3, "K": C}, C, ("three", "K"))
        both = {"two": 2, **tokens, "K": C}
        given = Operand("input", "input", dense(*both))
        yield Nest(both, {"mul": 1}, (given, Operand("output", "output", given.axes)))
        products = {"N": N, "heads": heads, "queries": L, "keys": L, "width": width}
        queries = Operand("input", "input", dense("N", "heads", "queries", "width"))
        others = dense("N", "heads", "keys", "width")
        scores = Operand("output", "output", dense("N", "heads", "queries", "keys"))
        yield Nest(products, {"mac": 1}, (queries, Operand("other", "input", others), scores))
        read = Operand("input", "input", scores.axes)
        pairs = {letter: products[letter] for letter in ("N", "heads", "queries", "keys")}
        for step in Softmax(-1).nests((N, heads, L, L)):
            yield Nest(pairs, step.ops, (read, scores))
        order: dict[str, Axis] = {"N": ("N",), "L": ("queries",)}
        summed = Operand("output", "output", (*(order[letter] for letter in tokens), ("heads", "width")))
        yield Nest(products, {"mac": 1}, (read, Operand("other", "input", others), summed))
        yield from self._linear("out_proj.", {**tokens, "K": C}, C, ("K",))

    def _linear(self, name: str, outputs: dict[str, Extent], C: Extent, features: tuple[str, ...]) -> Iterator[Nest]:
        """A fully connected layer on every token."""
        places = dense(*list(outputs)[:2])
        weight = Operand(f"{name}weight", "weight", (features, ("C",)))
        written = Operand("output", "output", (*places, features))
        yield Nest({**outputs, "C": C}, {"mac": 1}, (Operand("input", "input", (*places, ("C",))), weight, written))
        if self.bias:
            bias = Operand(f"{name}bias", "bias", (features,))
            yield Nest(outputs, {"bias_add": 1}, (Operand("input", "input", written.axes), bias, written))


class ImageToTokens(Layer):
    """The pixels of an image as a sequence, (N, C, H, W) to (N, H·W, C), in the same memory.

    >>> ImageToTokens().output((1, 768, 14, 14))
    (1, 196, 768)
    """

    __slots__ = ()

    local: ClassVar[bool] = False
    worked: ClassVar[bool] = True
    kept: ClassVar[tuple[str, ...]] = ()

    @property
    def in_place(self) -> bool:
        """A view of the input."""
        return True

    def output(self, *inputs: Shape) -> Shape:
        """(N, H·W, C)."""
        (x,) = inputs
        check_image(x, 2)
        return (x[0], prod(x[2:]), x[1])


class ClassToken(Layer):
    """A trained vector before the tokens, (N, L, C) to (N, L + 1, C): weights C (Devlin et al. 2019).

    >>> ClassToken().output((1, 196, 768))
    (1, 197, 768)
    """

    __slots__ = ()

    inferred: ClassVar[dict[str, int]] = {"embed_dim": -1}
    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Every position: before the first token lies the trained one."""
        (x,) = inputs
        check_rank(x, 3, "N, L, C")
        loops = {"N": x[0], "L": x[1] + 1, "C": x[2], "tap": 1}
        tokens = Operand("input", "input", (("N",), Window("L", "tap", before=1), ("C",)))
        token = Operand("token", "weight", (("C",),))
        return (Nest(loops, {}, (tokens, token, Operand("output", "output", dense("N", "L", "C")))),)


@dataclass(frozen=True, slots=True)
class PositionalEmbedding(Layer):
    """A trained vector for each place is added: weights L·C for sequences of `length` L (Gehring et al. 2017).

    >>> dict(PositionalEmbedding(197).nests((1, 197, 768))[0].ops)
    {'add': 1}
    """

    length: int

    inferred: ClassVar[dict[str, int]] = {"embed_dim": -1}
    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_int("length", self.length)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """One addition for each element."""
        (x,) = inputs
        check_rank(x, 3, "N, L, C")
        if differ(x[1], self.length):
            raise ShapeError(f"has vectors for sequences of {self.length} tokens (length), not of {x[1]}")
        loops = {"N": x[0], "L": x[1], "C": x[2]}
        axes = dense("N", "L", "C")
        table = Operand("position", "weight", dense("L", "C"))
        return (Nest(loops, {"add": 1}, (Operand("input", "input", axes), table, Operand("output", "output", axes))),)


@dataclass(frozen=True, slots=True)
class TakeToken(Layer):
    """One token of a sequence, x[:, index], in the same memory.

    >>> TakeToken().output((1, 197, 768))
    (1, 768)
    """

    index: int = 0

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_int("index", self.index, 0)

    @property
    def in_place(self) -> bool:
        """A view of the input."""
        return True

    def output(self, *inputs: Shape) -> Shape:
        """(N, C)."""
        (x,) = inputs
        check_rank(x, 3, "N, L, C")
        if surely(x[1] <= self.index):
            raise ShapeError(f"there is no token {self.index} (index), counted from 0, among {x[1]}")
        return (x[0], x[2])
