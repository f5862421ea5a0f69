"""Layers of LeNet-5 that PyTorch has no module for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Shape, prod, surely
from archcalc.layers.base import Ints, Layer, Made, check_image, check_int, check_rank, fit, ints, set_ints
from archcalc.layers.conv import dense
from archcalc.nest import Nest, Operand, Window


@dataclass(frozen=True, slots=True)
class TableConv2d(Layer):
    """2-D convolution between the maps that a table connects: R·S weights a connection, a bias a map.

    For each output map the table lists the input maps that it sees (LeCun et al. 1998, Table I; Torch7's
    `nn.SpatialConvolutionMap`).

    >>> TableConv2d(((0, 1), (1, 2), (0, 1, 2)), 5).nests((1, 3, 14, 14))[0].iterations
    17500
    """

    table: tuple[tuple[int, ...], ...]
    kernel_size: Ints

    def __post_init__(self) -> None:
        rows = [tuple(row) for row in self.table] if isinstance(self.table, tuple | list) else []
        if not rows or not all(rows) or any(type(i) is not int or i < 0 for row in rows for i in row):
            raise SpecError(f"table is {self.table!r}; it must list one or more input maps for each output map")
        object.__setattr__(self, "table", tuple(rows))
        set_ints(self, "kernel_size", 2, 1)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Each connection goes on from the sums of the one before it, the last of a map are its outputs; the biases."""
        (x,) = inputs
        check_image(x, 2)
        highest = max(map(max, self.table))
        if surely(x[1] <= highest):
            raise ShapeError(f"the table connects map {highest}, counted from 0, but the input has {x[1]} maps")
        kernel = ints(self.kernel_size)
        rows, columns = windows = Window("P", "R"), Window("Q", "S")
        P, Q = map(fit, windows, x[2:], kernel)
        connections, maps = sum(map(len, self.table)), len(self.table)
        images = {"N": x[0], "K": maps, "P": P, "Q": Q}
        seen = Operand("input", "input", (("N",), ("connections",), rows, columns))
        sums = dense("N", "connections", "P", "Q")
        output = Operand("output", "output", dense("N", "K", "P", "Q"))
        taps = {"N": x[0], "connections": connections, "P": P, "Q": Q, "R": kernel[0], "S": kernel[1]}
        weight = Operand("weight", "weight", dense("connections", "R", "S"))
        bias = Operand("bias", "bias", (("K",),))
        return (
            Nest(taps, {"mac": 1}, (seen, weight, Operand("output", "output", sums))),
            Nest({**images, "connections": connections}, {}, (Operand("input", "input", sums), output)),
            Nest(images, {"bias_add": 1}, (Operand("input", "input", output.axes), bias, output)),
        )

    def keeps(self, *inputs: Shape) -> tuple[Made, ...]:
        """The maps gathered for each connection and the sums over them, and the indices of both ends."""
        (x,) = inputs
        connections = sum(map(len, self.table))
        sums = self.nests(x)[0].output
        gathered = Made("gathered", x[0] * connections * prod(x[2:]))
        return gathered, Made("sums", prod(sums)), Made("table", 2 * connections, "index")


@dataclass(frozen=True, slots=True)
class RBF(Layer):
    """Squared distances of a vector to K fixed centres, Σ(x − c)² (LeCun et al. 1998, equation 7).

    The centres are chosen by hand, so they are buffers. For each of N·K·C differences a subtraction, a square, an
    addition.

    >>> RBF(10).output((1, 84))
    (1, 10)
    """

    out_features: int

    inferred: ClassVar[dict[str, int]] = {"in_features": 1}

    def __post_init__(self) -> None:
        check_int("out_features", self.out_features)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Every element of the vector against every centre."""
        (x,) = inputs
        check_rank(x, 2, "N, C")
        loops = {"N": x[0], "K": self.out_features, "C": x[1]}
        operands = (
            Operand("input", "input", dense("N", "C")),
            Operand("centres", "buffer", dense("K", "C")),
            Operand("output", "output", dense("N", "K")),
        )
        return (Nest(loops, {"add": 2, "mul": 1}, operands),)

    def keeps(self, *inputs: Shape) -> tuple[Made, ...]:
        """The differences, which are squared."""
        (x,) = inputs
        return (Made("differences", x[0] * self.out_features * x[1]),)
