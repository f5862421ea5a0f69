"""Activation functions.

Each states its formula for one element x and the operations in it. Both sides of a case distinction are computed, and
the comparison that chooses between them is counted. A change of sign, and a constant made of hyperparameters alone,
cost nothing; |x| is max(x, -x), one comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Extent, Shape, differ, exact_div, prod
from archcalc.layers.base import IMAGES, INPUT, OUTPUT, Layer, Made, axis_of, check_int, elementwise, lettered
from archcalc.nest import Nest, Operand


class _Activation(Layer):
    """A function of each element by itself; the keywords of a class are the operations of its formula."""

    __slots__ = ()

    ops: ClassVar[Mapping[str, int]] = {}
    kept: ClassVar[tuple[str, ...]] = (INPUT,)
    invertible: ClassVar[bool] = False
    """Whether PyTorch's backward makes do with the output where the input was overwritten."""

    def __init_subclass__(cls, **ops: int) -> None:
        super().__init_subclass__()
        if ops:
            cls.ops = ops

    @property
    def in_place(self) -> bool:
        """Whether the input is overwritten."""
        return bool(getattr(self, "inplace", False))

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input, or where that does as well the output; of an input that was overwritten PyTorch makes a copy."""
        return (OUTPUT,) if self.invertible and self.in_place else self.kept

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The operations of the formula for each element."""
        return (elementwise(inputs[0], dict(self.ops)),)


@dataclass(frozen=True, slots=True)
class _InPlace(_Activation):
    inplace: bool = False


class ReLU(_InPlace, cmp=1):
    """max(x, 0) (`torch.nn.ReLU`).

    >>> ReLU().nests((1, 64, 8, 8))[0].iterations
    4096
    """

    __slots__ = ()

    kept: ClassVar[tuple[str, ...]] = (OUTPUT,)


class ReLU6(_InPlace, cmp=2):
    """min(max(x, 0), 6) (`torch.nn.ReLU6`)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Hardtanh(_Activation, cmp=2):
    """min(max(x, min_val), max_val) (`torch.nn.Hardtanh`)."""

    min_val: float = -1.0
    max_val: float = 1.0
    inplace: bool = False

    def __post_init__(self) -> None:
        if not self.min_val < self.max_val:
            raise SpecError(f"min_val (={self.min_val!r}) must be less than max_val (={self.max_val!r})")


@dataclass(frozen=True, slots=True)
class LeakyReLU(_Activation, cmp=1, mul=1):
    """x where x > 0, else negative_slope·x (`torch.nn.LeakyReLU`)."""

    negative_slope: float = 0.01
    inplace: bool = False

    invertible: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class PReLU(_Activation, cmp=1, mul=1):
    """x where x > 0, else a·x; a is one weight, or one for each channel (`torch.nn.PReLU`).

    >>> from archcalc.nest import sizes
    >>> sizes(PReLU(64).nests((1, 64, 8, 8)))["weight"]
    64
    """

    num_parameters: int = 1
    init: float = 0.25

    def __post_init__(self) -> None:
        check_int("num_parameters", self.num_parameters)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The operations of the formula for each element, and its slopes."""
        (x,) = inputs
        channels = x[1] if len(x) > 1 else 1
        if self.num_parameters != 1 and differ(channels, self.num_parameters):
            raise ShapeError(f"channels (={channels}) must equal num_parameters (={self.num_parameters})")
        axis = () if self.num_parameters == 1 else (list(lettered(x, IMAGES))[1],)
        return (elementwise(x, dict(self.ops), Operand("weight", "weight", (axis,)), letters=IMAGES),)


@dataclass(frozen=True, slots=True)
class RReLU(_Activation, cmp=1, mul=1):
    """x where x > 0, else (lower + upper)/2·x at inference (`torch.nn.RReLU`)."""

    lower: float = 1 / 8
    upper: float = 1 / 3
    inplace: bool = False

    invertible: ClassVar[bool] = True

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The slopes drawn too."""
        return (*_Activation.keeps(self, *inputs), Made("slopes", prod(inputs[0])))


@dataclass(frozen=True, slots=True)
class Threshold(_Activation, cmp=1):
    """x where x > threshold, else value (`torch.nn.Threshold`)."""

    threshold: float
    value: float
    inplace: bool = False


@dataclass(frozen=True, slots=True)
class ELU(_Activation, cmp=1, exp=1, add=1, mul=1):
    """x where x > 0, else alpha·(exp(x) - 1) (Clevert et al. 2015, equation 15; `torch.nn.ELU`)."""

    alpha: float = 1.0
    inplace: bool = False

    invertible: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class CELU(_Activation, cmp=1, div=1, exp=1, add=1, mul=1):
    """x where x > 0, else alpha·(exp(x/alpha) - 1) (Barron 2017, equation 2; `torch.nn.CELU`)."""

    alpha: float = 1.0
    inplace: bool = False

    invertible: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.alpha:
            raise SpecError("alpha is 0; x/alpha needs another number")


class SELU(_InPlace, cmp=1, exp=1, add=1, mul=2):
    """λ·x where x > 0, else λ·α·(exp(x) - 1); λ, α fixed (Klambauer et al. 2017, equation 2; `torch.nn.SELU`)."""

    __slots__ = ()

    invertible: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class GELU(_Activation):
    """½·x·(1 + erf(x·√½)), or ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x·x·x))) (Hendrycks & Gimpel 2016; `torch.nn.GELU`).

    >>> [gelu.nests((1, 768))[0].ops for gelu in (GELU(), GELU("tanh"))]
    [{'mul': 3, 'erf': 1, 'add': 1}, {'mul': 6, 'add': 2, 'tanh': 1}]
    """

    approximate: Literal["none", "tanh"] = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise SpecError(f"approximate is {self.approximate!r}; it must be 'none' or 'tanh'")

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The operations of the formula for each element."""
        ops = {"mul": 3, "erf": 1, "add": 1} if self.approximate == "none" else {"mul": 6, "add": 2, "tanh": 1}
        return (elementwise(inputs[0], ops),)


class SiLU(_InPlace, exp=1, add=1, div=1):
    """x / (1 + exp(-x)) (`torch.nn.SiLU`)."""

    __slots__ = ()


class Mish(_InPlace, exp=1, add=1, log=1, tanh=1, mul=1):
    """x·tanh(log(1 + exp(x))) (Misra 2019, equation 1; `torch.nn.Mish`)."""

    __slots__ = ()


class Sigmoid(_Activation, exp=1, add=1, div=1):
    """1 / (1 + exp(-x)) (`torch.nn.Sigmoid`)."""

    __slots__ = ()

    kept: ClassVar[tuple[str, ...]] = (OUTPUT,)


class LogSigmoid(_Activation, exp=1, add=1, log=1):
    """-log(1 + exp(-x)) (`torch.nn.LogSigmoid`)."""

    __slots__ = ()

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input and the exponentials."""
        return INPUT, Made("exponentials", prod(inputs[0]))


class Tanh(_Activation, tanh=1):
    """tanh(x), an operation by itself (`torch.nn.Tanh`)."""

    __slots__ = ()

    kept: ClassVar[tuple[str, ...]] = (OUTPUT,)


class Tanhshrink(_Activation, tanh=1, add=1):
    """x - tanh(x) (`torch.nn.Tanhshrink`)."""

    __slots__ = ()

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """tanh(x)."""
        return (Made("tanh", prod(inputs[0])),)


class Hardsigmoid(_InPlace, add=1, cmp=2, div=1):
    """min(max(x + 3, 0), 6) / 6 (Howard et al. 2019, section 5.2; `torch.nn.Hardsigmoid`)."""

    __slots__ = ()


class Hardswish(_InPlace, add=1, cmp=2, mul=1, div=1):
    """x·min(max(x + 3, 0), 6) / 6 (Howard et al. 2019, section 5.2; `torch.nn.Hardswish`)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Hardshrink(_Activation, cmp=2):
    """x where x > lambd or x < -lambd, else 0 (`torch.nn.Hardshrink`)."""

    lambd: float = 0.5


@dataclass(frozen=True, slots=True)
class Softshrink(_Activation, cmp=2, add=2):
    """x - lambd where x > lambd, x + lambd where x < -lambd, else 0 (`torch.nn.Softshrink`)."""

    lambd: float = 0.5

    def __post_init__(self) -> None:
        if self.lambd < 0:
            raise SpecError(f"lambd is {self.lambd!r}; it must not be negative")


@dataclass(frozen=True, slots=True)
class Softplus(_Activation, mul=1, exp=1, add=1, log=1, div=1, cmp=1):
    """log(1 + exp(beta·x)) / beta where beta·x ≤ threshold, else x (`torch.nn.Softplus`)."""

    beta: float = 1.0
    threshold: float = 20.0

    def __post_init__(self) -> None:
        if not self.beta:
            raise SpecError("beta is 0; the division by beta needs another number")


class Softsign(_Activation, cmp=1, add=1, div=1):
    """x / (1 + max(x, -x)) (`torch.nn.Softsign`)."""

    __slots__ = ()

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input and the denominator."""
        return INPUT, Made("denominator", prod(inputs[0]))


@dataclass(frozen=True, slots=True)
class GLU(_Activation, exp=1, add=1, div=1):
    """a / (1 + exp(-b)) where a and b are the halves of the input along `dim` (Dauphin et al. 2016; `torch.nn.GLU`).

    >>> GLU(1).output((8, 64, 10))
    (8, 32, 10)
    """

    dim: int = -1

    def __post_init__(self) -> None:
        check_int("dim", self.dim, None)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The operations of the formula for each element of the output."""
        (x,) = inputs
        dim = axis_of("dim", self.dim, x)
        if differ(x[dim] % 2, 0):
            raise ShapeError(f"axis {dim} (={x[dim]}) must be even, to be halved")
        half: Extent = exact_div(x[dim], 2)
        return (elementwise((*x[:dim], half, *x[dim + 1 :]), dict(self.ops), operands=2),)
