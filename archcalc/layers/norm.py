"""Normalisation layers, at inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import SpecError
from archcalc.extents import Shape
from archcalc.layers.base import Layer, check_int, check_rank, elementwise
from archcalc.nest import Nest, Operand, Window

_AFFINE = (Operand("weight", "weight", (("C",),)), Operand("bias", "bias", (("C",),)))
_STATISTICS = (
    Operand("running_mean", "buffer", (("C",),)),
    Operand("running_var", "buffer", (("C",),)),
    Operand("num_batches_tracked", "buffer", ()),
)


@dataclass(frozen=True, slots=True)
class BatchNorm2d(Layer):
    """Batch normalisation at inference: one scale and one shift an element (Ioffe & Szegedy 2015, algorithm 2).

    What depends on the statistics and on gamma and beta alone is computed once, not for each image, and not counted.

    >>> BatchNorm2d().nests((1, 64, 112, 112))[0].size("weight")
    64
    """

    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    track_running_stats: bool = True

    inferred: ClassVar[dict[str, int]] = {"num_features": 1}

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """One multiplication and one addition for each element."""
        (x,) = inputs
        check_rank(x, 4, "N, C, H, W")
        operands = (_AFFINE if self.affine else ()) + (_STATISTICS if self.track_running_stats else ())
        return (elementwise(x, {"mul": 1, "add": 1}, *operands),)


@dataclass(frozen=True, slots=True)
class LocalResponseNorm(Layer):
    """x / (k + alpha/size · sum of squares over `size` channels)^beta (Krizhevsky et al. 2012, section 3.3).

    >>> LocalResponseNorm(5).nests((1, 96, 55, 55))[0].iterations
    1452000
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __post_init__(self) -> None:
        check_int("size", self.size)
        if self.beta < 0:
            raise SpecError(f"beta is {self.beta!r}; it must not be negative")

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Squares summed over a window of channels, then scale, shift, power and division for each element."""
        (x,) = inputs
        check_rank(x, 4, "N, C, H, W")
        N, C, H, W = x
        channels = Window("K", "n", 1, 1, self.size // 2, (self.size - 1) // 2)
        squares = Nest(
            {"N": N, "K": C, "H": H, "W": W, "n": self.size},
            {"mul": 1, "add": 1},
            (
                Operand("input", "input", (("N",), channels, ("H",), ("W",))),
                Operand("output", "output", (("N",), ("K",), ("H",), ("W",))),
            ),
        )
        return squares, elementwise(x, {"mul": 1, "add": 1, "pow": 1, "div": 1})
