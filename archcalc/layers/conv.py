"""Convolution and fully connected layers: multiply-adds of the input with a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Shape, differ, exact_div
from archcalc.layers.base import Ints, Layer, check_int, check_rank, fit, ints, set_ints
from archcalc.nest import Nest, Operand, Window

_WEIGHT = Operand("weight", "weight", (("G", "K/G"), ("C/G",), ("R",), ("S",)))
_OUTPUT = Operand("output", "output", (("N",), ("G", "K/G"), ("P",), ("Q",)))
_BIASED = (
    Operand("input", "input", (("N",), ("K",), ("P",), ("Q",))),
    Operand("bias", "bias", (("K",),)),
    Operand("output", "output", (("N",), ("K",), ("P",), ("Q",))),
)
_LINEAR = (
    Operand("input", "input", (("N",), ("C",))),
    Operand("weight", "weight", (("K",), ("C",))),
    Operand("output", "output", (("N",), ("K",))),
)
_LINEAR_BIASED = (
    Operand("input", "input", (("N",), ("K",))),
    Operand("bias", "bias", (("K",),)),
    Operand("output", "output", (("N",), ("K",))),
)


@dataclass(frozen=True, slots=True)
class Conv2d(Layer):
    """2-D convolution: weights (R·S·C/G)·K, MACs N·P·Q·K·(R·S·C/G) (Dumoulin & Visin 2016; `torch.nn.Conv2d`).

    >>> Conv2d(96, 11, stride=4).output((1, 3, 227, 227))
    (1, 96, 55, 55)
    """

    out_channels: int
    kernel_size: Ints
    stride: Ints = 1
    padding: Ints | Literal["same", "valid"] = 0
    dilation: Ints = 1
    groups: int = 1
    bias: bool = True

    inferred: ClassVar[dict[str, int]] = {"in_channels": 1}

    def __post_init__(self) -> None:
        check_int("out_channels", self.out_channels)
        check_int("groups", self.groups)
        set_ints(self, "kernel_size", 2, 1)
        set_ints(self, "stride", 2, 1)
        set_ints(self, "dilation", 2, 1)
        if self.padding != "same":
            if self.padding == "valid":
                object.__setattr__(self, "padding", 0)
            set_ints(self, "padding", 2, 0)
        elif self.stride != (1, 1):
            raise SpecError(f'padding="same" needs stride 1, not {self.stride}')
        if self.out_channels % self.groups:
            raise SpecError(f"out_channels (={self.out_channels}) must be divisible by groups (={self.groups})")

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The seven loops of a convolution, and one addition for each output where there is a bias."""
        (x,) = inputs
        check_rank(x, 4, "N, C, H, W")
        N, C, H, W = x
        K, G = self.out_channels, self.groups
        R, S = ints(self.kernel_size)
        if differ(C % G, 0):
            raise ShapeError(f"channels in (={C}) must be divisible by groups (={G})")
        rows, columns = self.window(0), self.window(1)
        P, Q = fit(rows, H, R), fit(columns, W, S)
        loops = {"N": N, "G": G, "K/G": K // G, "P": P, "Q": Q, "C/G": exact_div(C, G), "R": R, "S": S}
        image = Operand("input", "input", (("N",), ("G", "C/G"), rows, columns))
        convolution = Nest(loops, {"mac": 1}, (image, _WEIGHT, _OUTPUT))
        if not self.bias:
            return (convolution,)
        return convolution, Nest({"N": N, "K": K, "P": P, "Q": Q}, {"bias_add": 1}, _BIASED)

    def window(self, axis: int) -> Window:
        """How the outputs along a spatial axis (0 height, 1 width) look at its inputs."""
        stride, dilation = ints(self.stride)[axis], ints(self.dilation)[axis]
        if self.padding == "same":
            total = dilation * (ints(self.kernel_size)[axis] - 1)
            before, after = total // 2, total - total // 2
        else:
            before = after = ints(self.padding)[axis]  # type: ignore[arg-type]
        return Window("PQ"[axis], "RS"[axis], stride, dilation, before, after)


@dataclass(frozen=True, slots=True)
class Linear(Layer):
    """Fully connected layer on vectors: weights C·K, MACs N·K·C (`torch.nn.Linear`).

    >>> Linear(1000).nests((1, 4096))[0].iterations
    4096000
    """

    out_features: int
    bias: bool = True

    inferred: ClassVar[dict[str, int]] = {"in_features": -1}

    def __post_init__(self) -> None:
        check_int("out_features", self.out_features)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """A matrix product, and one addition for each output where there is a bias."""
        (x,) = inputs
        check_rank(x, 2, "N, C")
        N, C = x
        K = self.out_features
        product = Nest({"N": N, "K": K, "C": C}, {"mac": 1}, _LINEAR)
        return (product, Nest({"N": N, "K": K}, {"bias_add": 1}, _LINEAR_BIASED)) if self.bias else (product,)
