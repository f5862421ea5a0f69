"""Embeddings: rows of a table, looked up by whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from archcalc.errors import SpecError
from archcalc.extents import Shape
from archcalc.layers.base import INPUT, Layer, Made, check_int, check_rank
from archcalc.nest import Nest, Operand

_REDUCTIONS: dict[str, tuple[dict[str, int], ...]] = {
    "sum": ({"add": 1},),
    "mean": ({"add": 1}, {"div": 1}),
    "max": ({"cmp": 1},),
}


@dataclass(frozen=True, slots=True)
class _Table(Layer):
    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None = None
    max_norm: float | None = None
    norm_type: float = 2.0
    scale_grad_by_freq: bool = False
    sparse: bool = False

    local: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_int("num_embeddings", self.num_embeddings)
        check_int("embedding_dim", self.embedding_dim)
        if self.max_norm is not None:
            raise SpecError(f"max_norm is {self.max_norm!r}; there is no rule for it: what it costs depends on the ids")
        rows = self.num_embeddings
        if self.padding_idx is not None:
            check_int("padding_idx", self.padding_idx, None)
            if not -rows <= self.padding_idx < rows:
                raise SpecError(f"padding_idx (={self.padding_idx}) must be one of the {rows} rows (num_embeddings)")

    def _rows(self, ids: Shape) -> Nest:
        """For each id its row of the table, v being the row where v = id: a selection, which only moves data."""
        letters = ("N", "L")[: len(ids)] if len(ids) < 3 else tuple(f"D{i}" for i in range(len(ids)))
        axes = tuple((letter,) for letter in letters)
        loops = {**dict(zip(letters, ids, strict=True)), "C": self.embedding_dim, "V": self.num_embeddings}
        table = Operand("weight", "weight", (("V",), ("C",)))
        return Nest(loops, {}, (Operand("input", "input", axes), table, Operand("output", "output", (*axes, ("C",)))))


class Embedding(_Table):
    """For each id a row of embedding_dim numbers: weights V·C, no arithmetic (`torch.nn.Embedding`).

    >>> Embedding(30522, 768).output((1, 512))
    (1, 512, 768)
    """

    __slots__ = ()

    kept: ClassVar[tuple[str, ...]] = (INPUT,)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The look-up, at no cost."""
        return (self._rows(inputs[0]),)


@dataclass(frozen=True, slots=True)
class EmbeddingBag(_Table):
    """Sum, mean or maximum of the rows of each bag of L ids (`torch.nn.EmbeddingBag` on ids (N, L)).

    One operation for each id and number of its row, ids at padding_idx included; for means one division more.

    >>> EmbeddingBag(1000, 64).output((8, 20))
    (8, 64)
    """

    mode: Literal["sum", "mean", "max"] = "mean"
    include_last_offset: bool = False

    def __post_init__(self) -> None:
        _Table.__post_init__(self)
        if self.mode not in _REDUCTIONS:
            raise SpecError(f"mode is {self.mode!r}; it must be 'sum', 'mean' or 'max'")

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The look-up; each row added or compared; the division of a mean."""
        (ids,) = inputs
        check_rank(ids, 2, "N, L")
        rows = self._rows(ids)
        bags = Operand("output", "output", (("N",), ("C",)))
        loops = {"N": ids[0], "L": ids[1], "C": self.embedding_dim}
        taken, *finish = _REDUCTIONS[self.mode]
        reduced = Nest(loops, dict(taken), (rows.operands[-1]._replace(name="input", role="input"), bags))
        sums = bags._replace(name="input", role="input")
        return rows, reduced, *(Nest({"N": ids[0], "C": loops["C"]}, dict(ops), (sums, bags)) for ops in finish)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The ids and, as indices, where each bag begins, the bag of each id, the sizes of bags and their maxima.

        Sums without a padding_idx need no bag for each id.
        """
        (ids,) = inputs
        bags, each = ids[0], ids[0] * ids[1] + 1
        listed = 0 if self.mode == "sum" and self.padding_idx is None else each
        maxima = bags * self.embedding_dim if self.mode == "max" else bags
        return INPUT, Made("bags", 2 * bags + listed + maxima, "index")
