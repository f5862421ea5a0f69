"""Convolution and fully connected layers: multiply-adds of the input with a weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import ClassVar, Literal, NamedTuple

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Extent, Shape, differ, exact_div, prod, surely, tidy
from archcalc.layers.base import (
    FACTORS,
    INPUT,
    TOKENS,
    Ints,
    Layer,
    Made,
    check_image,
    check_int,
    fit,
    ints,
    lettered,
    set_ints,
)
from archcalc.nest import Axis, Nest, Operand, Scatter, Window

SPACE, PLACES, TAPS = "DHW", "OPQ", "TRS"
"""Letters of depth, height and width: of the input, of the output, of the kernel."""

_MODES = ("zeros", "reflect", "replicate", "circular")


def dense(*letters: str) -> tuple[Axis, ...]:
    """Axes of one loop each."""
    return tuple((letter,) for letter in letters)


def _biased(letters: tuple[str, ...]) -> tuple[Operand, ...]:
    axes = dense(*letters)
    return Operand("input", "input", axes), Operand("bias", "bias", (("K",),)), Operand("output", "output", axes)


_OUTPUTS = {rank: ("N", "K", *PLACES[-rank:]) for rank in (1, 2, 3)}
_BIASED = {rank: _biased(letters) for rank, letters in _OUTPUTS.items()}


@dataclass(frozen=True, slots=True)
class _Convolution(Layer):
    out_channels: int
    kernel_size: Ints
    stride: Ints = 1
    padding: Ints | Literal["same", "valid"] = 0

    rank: ClassVar[int]
    inferred: ClassVar[dict[str, int]] = {"in_channels": 1}
    kept: ClassVar[tuple[str, ...]] = (INPUT,)

    def _check(self, groups: int) -> None:
        check_int("out_channels", self.out_channels)
        check_int("groups", groups)
        for name in ("kernel_size", "stride", "dilation"):
            set_ints(self, name, self.rank, 1)
        if self.out_channels % groups:
            raise SpecError(f"out_channels (={self.out_channels}) must be divisible by groups (={groups})")

    def _channels(self, x: Shape, groups: int) -> Extent:
        """Channels in of one group. Raises ShapeError for inputs that are no images or cannot be grouped."""
        check_image(x, self.rank)
        if differ(x[1] % groups, 0):
            raise ShapeError(f"channels in (={x[1]}) must be divisible by groups (={groups})")
        return exact_div(x[1], groups)

    def _biases(self, batch: Extent, outputs: Shape) -> Nest:
        loops = dict(zip(_OUTPUTS[self.rank], (batch, self.out_channels, *outputs), strict=True))
        return Nest(loops, {"bias_add": 1}, _BIASED[self.rank])


class _Look(NamedTuple):
    """How a convolution looks at its input: a window for each spatial axis, letters of its loops, its operands."""

    windows: tuple[Window, ...]
    letters: tuple[str, ...]
    operands: tuple[Operand, ...]


@lru_cache(1024)
def _look(
    kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...] | str, dilation: tuple[int, ...]
) -> _Look:
    places, taps = PLACES[-len(kernel) :], TAPS[-len(kernel) :]
    if padding == "same":
        spare = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
        before, after = [n // 2 for n in spare], [n - n // 2 for n in spare]
    else:
        before = after = padding  # type: ignore[assignment]
    windows = tuple(map(Window, places, taps, stride, dilation, before, after))
    image = Operand("input", "input", (("N",), ("G", "C/G"), *windows))
    weight = Operand("weight", "weight", (("G", "K/G"), ("C/G",), *dense(*taps)))
    output = Operand("output", "output", (("N",), ("G", "K/G"), *dense(*places)))
    return _Look(windows, ("N", "G", "K/G", *places, "C/G", *taps), (image, weight, output))


@dataclass(frozen=True, slots=True)
class _Conv(_Convolution):
    dilation: Ints = 1
    groups: int = 1
    bias: bool = True
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"

    def __post_init__(self) -> None:
        self._check(self.groups)
        if self.padding != "same":
            if self.padding == "valid":
                object.__setattr__(self, "padding", 0)
            set_ints(self, "padding", self.rank, 0)
        elif self.stride != (1,) * self.rank:
            raise SpecError(f'padding="same" needs stride 1, not {self.stride}')
        if self.padding_mode != "zeros" and self.padding_mode not in _MODES:
            raise SpecError(f"padding_mode is {self.padding_mode!r}; it must be one of {', '.join(_MODES)}")

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The loops of a convolution, and one addition for each output where there is a bias."""
        (x,) = inputs
        C, G, kernel = self._channels(x, self.groups), self.groups, ints(self.kernel_size)
        windows, letters, operands = _look(kernel, self.stride, self.padding, self.dilation)
        if self.padding_mode != "zeros":
            self._check_padding(windows, x)
        outputs = tuple(map(fit, windows, x[2:], kernel))
        loops = dict(zip(letters, (x[0], G, self.out_channels // G, *outputs, C, *kernel), strict=True))
        convolution = Nest(loops, {"mac": 1}, operands)
        return (convolution, self._biases(x[0], outputs)) if self.bias else (convolution,)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input; a padded copy of it where PyTorch pads it beforehand, beside it for reflect and replicate."""
        (x,) = inputs
        windows = _look(ints(self.kernel_size), self.stride, self.padding, self.dilation).windows
        uneven = self.padding == "same" and any(window.before != window.after for window in windows)
        if self.padding_mode == "zeros" and not uneven:
            return (INPUT,)
        even = 2 if self.padding_mode == "zeros" else 0  # zeros on both sides are the kernel's own business
        added = [window.padding() - even * min(window.before, window.after) for window in windows]
        sizes = [size + more for size, more in zip(x[2:], added, strict=True)]
        padded = Made("padded input", prod((*x[:2], *sizes)))
        return (INPUT, padded) if self.padding_mode in ("reflect", "replicate") else (padded,)

    def _check_padding(self, windows: tuple[Window, ...], x: Shape) -> None:
        """Raise ShapeError where the input is too small to be reflected or to be wrapped around."""
        for window, size in zip(windows, x[2:], strict=True):
            most = {"reflect": size - 1, "circular": size}.get(self.padding_mode)
            if most is not None and (surely(window.before > most) or surely(window.after > most)):
                raise ShapeError(
                    f"an input of {size} positions is too small for {self.padding_mode} padding of "
                    f"{window.before} + {window.after}"
                )


class Conv1d(_Conv):
    """1-D convolution: weights (S·C/G)·K, MACs N·Q·K·(S·C/G) (Dumoulin & Visin 2016; `torch.nn.Conv1d`).

    >>> Conv1d(384, 3, stride=2, padding=1).output((1, 80, 3000))
    (1, 384, 1500)
    """

    __slots__ = ()

    rank: ClassVar[int] = 1


class Conv2d(_Conv):
    """2-D convolution: weights (R·S·C/G)·K, MACs N·P·Q·K·(R·S·C/G) (Dumoulin & Visin 2016; `torch.nn.Conv2d`).

    >>> Conv2d(96, 11, stride=4).output((1, 3, 227, 227))
    (1, 96, 55, 55)
    """

    __slots__ = ()

    rank: ClassVar[int] = 2


class Conv3d(_Conv):
    """3-D convolution: weights (T·R·S·C/G)·K, MACs N·O·P·Q·K·(T·R·S·C/G) (Tran et al. 2015; `torch.nn.Conv3d`).

    >>> Conv3d(64, 3, padding=1).output((1, 3, 16, 112, 112))
    (1, 64, 16, 112, 112)
    """

    __slots__ = ()

    rank: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class _ConvTranspose(_Convolution):
    output_padding: Ints = 0
    groups: int = 1
    bias: bool = True
    dilation: Ints = 1

    def __post_init__(self) -> None:
        self._check(self.groups)
        set_ints(self, "padding", self.rank, 0)
        set_ints(self, "output_padding", self.rank, 0)
        for extra, step, gap in zip(*map(ints, (self.output_padding, self.stride, self.dilation)), strict=True):
            if extra >= max(step, gap):
                raise SpecError(f"output_padding (={extra}) must be smaller than stride (={step}) or dilation (={gap})")

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Every input times every tap, added onto the output; one more addition for each output for the bias."""
        (x,) = inputs
        C, G = self._channels(x, self.groups), self.groups
        space, taps = SPACE[-self.rank :], TAPS[-self.rank :]
        letters = ("N", "G", "C/G", *space, "K/G", *taps)
        loops = dict(zip(letters, (x[0], G, C, *x[2:], self.out_channels // G, *ints(self.kernel_size)), strict=True))
        image = Operand("input", "input", (("N",), ("G", "C/G"), *dense(*space)))
        weight = Operand("weight", "weight", (("G", "C/G"), ("K/G",), *dense(*taps)))
        output = Operand("output", "output", (("N",), ("G", "K/G"), *self._scatters()))
        product = Nest(loops, {"mac": 1}, (image, weight, output))
        outputs = tuple(map(tidy, product.output[2:]))
        if any(surely(size < 1) for size in outputs):
            raise ShapeError(f"nothing of the output is left between the paddings: {'×'.join(map(str, outputs))}")
        return (product, self._biases(x[0], outputs)) if self.bias else (product,)

    def _scatters(self) -> Iterator[Scatter]:
        """Where the inputs along each spatial axis are added onto its outputs."""
        steps = map(ints, (self.stride, self.dilation, self.padding, self.output_padding))  # type: ignore[arg-type]
        for i, (stride, dilation, padding, extra) in enumerate(zip(*steps, strict=True), start=3 - self.rank):
            yield Scatter(PLACES[i], Window(SPACE[i], TAPS[i], stride, dilation, padding, padding), extra)


class ConvTranspose1d(_ConvTranspose):
    """1-D transposed convolution: weights (S)·C·K/G, MACs N·W·K·(S·C/G) (`torch.nn.ConvTranspose1d`).

    Each input is multiplied with each tap and added onto the output (Dumoulin & Visin 2016, section 4).

    >>> ConvTranspose1d(8, 4, stride=2, padding=1).output((1, 16, 50))
    (1, 8, 100)
    """

    __slots__ = ()

    rank: ClassVar[int] = 1


class ConvTranspose2d(_ConvTranspose):
    """2-D transposed convolution: weights (R·S)·C·K/G, MACs N·H·W·K·(R·S·C/G) (`torch.nn.ConvTranspose2d`).

    Each input is multiplied with each tap and added onto the output (Dumoulin & Visin 2016, section 4).

    >>> ConvTranspose2d(64, 3, stride=2, padding=1, output_padding=1).output((1, 128, 56, 56))
    (1, 64, 112, 112)
    """

    __slots__ = ()

    rank: ClassVar[int] = 2


class ConvTranspose3d(_ConvTranspose):
    """3-D transposed convolution: weights (T·R·S)·C·K/G, MACs N·D·H·W·K·(T·R·S·C/G) (`torch.nn.ConvTranspose3d`).

    Each input is multiplied with each tap and added onto the output (Dumoulin & Visin 2016, section 4).

    >>> ConvTranspose3d(32, 2, stride=2).output((1, 64, 8, 8, 8))
    (1, 32, 16, 16, 16)
    """

    __slots__ = ()

    rank: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class Linear(Layer):
    """Fully connected layer on the last axis: weights C·K, MACs N·K·C, for tokens N·L·K·C (`torch.nn.Linear`).

    >>> Linear(1000).nests((1, 4096))[0].iterations
    4096000
    >>> Linear(3072).output((1, 197, 768))
    (1, 197, 3072)
    """

    out_features: int
    bias: bool = True

    inferred: ClassVar[dict[str, int]] = {"in_features": -1}
    kept: ClassVar[tuple[str, ...]] = (FACTORS,)

    def __post_init__(self) -> None:
        check_int("out_features", self.out_features)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """A matrix product, and one addition for each output where there is a bias."""
        (x,) = inputs
        outputs, operands, biased = _linear(len(x))
        *places, C = x
        loops = dict(zip(outputs, (*places, self.out_features), strict=True))
        product = Nest({**loops, "C": C}, {"mac": 1}, operands)
        return (product, Nest(loops, {"bias_add": 1}, biased)) if self.bias else (product,)


@cache
def _linear(rank: int) -> tuple[tuple[str, ...], tuple[Operand, ...], tuple[Operand, ...]]:
    """Letters of a fully connected layer's outputs, operands of its product and of its bias. Raises ShapeError."""
    if rank == 0:
        raise ShapeError("needs an input of at least 1 axis (..., C), not 0")
    outputs = (*list(lettered((0,) * rank, TOKENS))[:-1], "K")
    axes = dense(*outputs[:-1])
    product = (
        Operand("input", "input", (*axes, ("C",))),
        Operand("weight", "weight", (("K",), ("C",))),
        Operand("output", "output", (*axes, ("K",))),
    )
    return outputs, product, _biased(outputs)


@dataclass(frozen=True, slots=True)
class Bilinear(Layer):
    """x₁ᵀ·A·x₂ + b for each of K matrices A: weights C₁·C₂·K, MACs N·K·C₂·C₁ + N·K·C₂ (`torch.nn.Bilinear`).

    The product x₁ᵀ·A comes first, as in PyTorch's `_trilinear`.

    >>> Bilinear(7).output((1, 5), (1, 6))
    (1, 7)
    """

    out_features: int
    bias: bool = True

    inputs: ClassVar[int | None] = 2
    kept: ClassVar[tuple[str, ...]] = (INPUT,)

    def __post_init__(self) -> None:
        check_int("out_features", self.out_features)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """x₁ᵀ·A, its product with x₂, and one addition for each output where there is a bias."""
        x1, x2 = inputs
        if len(x1) != len(x2) or any(map(differ, x1[:-1], x2[:-1])):
            raise ShapeError("both inputs must have the same axes but for the last")
        outputs, _, biased = _linear(len(x1))
        axes, loops = dense(*outputs[:-1]), dict(zip(outputs, (*x1[:-1], self.out_features), strict=True))
        weight = Operand("weight", "weight", (("K",), ("C1",), ("C2",)))
        half, output = (*axes, ("K",), ("C2",)), Operand("output", "output", (*axes, ("K",)))
        first, second = (Operand("input", "input", (*axes, (letter,))) for letter in ("C1", "C2"))
        nests = (
            Nest({**loops, "C2": x2[-1], "C1": x1[-1]}, {"mac": 1}, (first, weight, Operand("output", "output", half))),
            Nest({**loops, "C2": x2[-1]}, {"mac": 1}, (Operand("input", "input", half), second, output)),
        )
        return (*nests, Nest(loops, {"bias_add": 1}, biased)) if self.bias else nests

    def arguments(self, *inputs: Shape) -> dict[str, object]:
        """The widths of both inputs too."""
        widths = {"in1_features": inputs[0][-1], "in2_features": inputs[1][-1]}
        return {**widths, "out_features": self.out_features, "bias": self.bias}
