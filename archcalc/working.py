"""Workings: numbers that remember how they were computed, so that the rules themselves write the arithmetic.

A `Worked` number is an extent. Running a rule on worked numbers gives its value and its text at once:
`Window.outputs` on H = 227 and R = 11 is 55 and reads `⌊(227 − 11)/4⌋ + 1` or, in letters, `⌊(H − R)/stride⌋ + 1`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, TypeAlias

from archcalc import extents, units
from archcalc.extents import Extent, Shape, prod
from archcalc.nest import Bins, Ledger, Nest, Role, Scatter, Window

Operation: TypeAlias = Literal["leaf", "sum", "product", "floor", "ceil", "quotient", "minimum", "group", "result"]


class Worked:
    """A number with the expression it came from; `+ - * //` build larger expressions.

    >>> Equation(group(leaf("R", 3) * leaf("S", 3) * leaf("C", 3)) * leaf("K", 64)).text()
    '(3·3·3)·64 = 1,728'
    """

    __slots__ = ("args", "letter", "operation", "value")

    def __init__(self, value: Extent, operation: Operation = "leaf", args: tuple[Worked, ...] = (), letter: str = ""):
        self.value = value
        self.operation = operation
        self.args = args
        self.letter = letter

    def __add__(self, other: Extent) -> Worked:
        other = worked(other)
        terms = self.args if self.operation == "sum" else (self,)
        return Worked(self.value + other.value, "sum", (*terms, other))

    def __radd__(self, other: Extent) -> Worked:
        return worked(other) + self

    def __neg__(self) -> Worked:
        return Worked(-self.value, "product", (Worked(-1), self))

    def __sub__(self, other: Extent) -> Worked:
        return self + -worked(other)

    def __rsub__(self, other: Extent) -> Worked:
        return worked(other) + -self

    def __mul__(self, other: Extent) -> Worked:
        factor = worked(other)
        if factor.operation == "quotient" and factor.args[1].letter == self.letter != "":
            return factor.args[0]
        return Worked(self.value * factor.value, "product", (self, factor))

    def __rmul__(self, other: Extent) -> Worked:
        return worked(other) * self

    def __floordiv__(self, other: Extent) -> Worked:
        other = worked(other)
        return Worked(self.value // other.value, "floor", (self, other))

    def __eq__(self, other: object) -> bool:
        return not extents.differ(self.value, worked(other).value)

    __hash__ = None  # type: ignore[assignment]


def differ(a: Extent, b: Extent) -> bool:
    """Whether two numbers differ in value."""
    return extents.differ(worked(a).value, worked(b).value)


def leaf(letter: str, value: Extent) -> Worked:
    """A number known by a letter."""
    return Worked(value, letter=letter)


def summand(value: Extent) -> Worked:
    """A result of its own that is one term of a sum, written with thousands separated."""
    return Worked(value, "result")


def worked(number: Extent) -> Worked:
    """The number as a worked number; a plain one stands for itself in letters too."""
    return number if isinstance(number, Worked) else Worked(number)


def ceil_div(a: Extent, b: Extent) -> Worked:
    """⌈a/b⌉."""
    a, b = worked(a), worked(b)
    return Worked(extents.ceil_div(a.value, b.value), "ceil", (a, b))


def exact_div(a: Extent, b: Extent) -> Worked:
    """a/b where b divides a."""
    a, b = worked(a), worked(b)
    return Worked(extents.exact_div(a.value, b.value), "quotient", (a, b))


def minimum(a: Extent, b: Extent) -> Worked:
    """The smaller of two numbers."""
    a, b = worked(a), worked(b)
    return Worked(extents.minimum(a.value, b.value), "minimum", (a, b))


def group(number: Worked) -> Worked:
    """The number in parentheses of its own, where it is a product."""
    return Worked(number.value, "group", (number,)) if number.operation == "product" else number


class Equation:
    """An expression and its value, in numbers or in letters, as plain text or as LaTeX."""

    __slots__ = ("number",)

    def __init__(self, number: Extent):
        self.number = worked(number)

    def __repr__(self) -> str:
        return f"<{self.text()}>"

    @property
    def value(self) -> Extent:
        """What the expression comes to."""
        return self.number.value

    def text(self) -> str:
        """`(3·3·3)·64 = 1,728`; only the value where there is nothing to compute."""
        return self._equal(_TEXT.write(self.number), str(self.value), units.count(self.value))

    def letters(self) -> str:
        """`(R·S·C/G)·K`."""
        return _TEXT_LETTERS.write(self.number)

    def latex(self) -> str:
        r"""`(3 \cdot 3 \cdot 3) \cdot 64 = 1{,}728`."""
        return self._equal(_LATEX.write(self.number), str(self.value), units.latex(self.value))

    def latex_letters(self) -> str:
        r"""`(R \cdot S \cdot C/G) \cdot K`."""
        return _LATEX_LETTERS.write(self.number)

    @staticmethod
    def _equal(expression: str, plain: str, value: str) -> str:
        return value if expression in (plain, value, f"({value})") else f"{expression} = {value}"


class _Writer:
    """Writes a worked number in one notation."""

    def __init__(self, *, letters: bool, latex: bool):
        self.letters = letters
        self.times = r" \cdot " if latex else "·"
        self.minus = " - " if latex else " − "
        self.latex = latex

    def write(self, number: Worked) -> str:
        return str(getattr(self, f"_{number.operation}")(number))

    def _leaf(self, number: Worked) -> str:
        if self.letters and number.letter:
            return self._letter(number.letter)
        if isinstance(number.value, int):
            return str(number.value) if number.value >= 0 else f"({self.minus.strip()}{-number.value})"
        text = units.latex(number.value) if self.latex else units.count(number.value)
        return f"({text})" if " " in text and not self.latex else text

    def _letter(self, letter: str) -> str:
        if not self.latex or len(letter) == 1:
            return letter
        return f"{letter[0]}_{{{letter[1:]}}}" if letter[1:].isdigit() else rf"\text{{{letter}}}"

    def _result(self, number: Worked) -> str:
        return units.latex(number.value) if self.latex else units.count(number.value)

    def _sum(self, number: Worked) -> str:
        parts: list[str] = []
        for term in number.args:
            if not self.letters and _is_zero(term):
                continue
            negative = _negated(term)
            shown = self.write(term) if negative is None else self._factor(negative)
            if parts:
                parts.append(self.minus if negative is not None else " + ")
            elif negative is not None:
                parts.append(self.minus.strip())
            parts.append(shown)
        return "".join(parts) or "0"

    def _product(self, number: Worked) -> str:
        factors = _factors(number)
        if not self.letters:
            factors = [f for f in factors if not (f.letter == "N" and _is_one(f))] or factors[:1]
        return self.times.join(self._factor(factor) for factor in factors)

    def _factor(self, number: Worked) -> str:
        text = self.write(number)
        return f"({text})" if number.operation == "sum" and " " in text else text

    def _group(self, number: Worked) -> str:
        return f"({self.write(number.args[0])})"

    def _quotient(self, number: Worked) -> str:
        top, bottom = number.args
        if not self.letters and _is_one(bottom):
            return self.write(top)
        return f"{self._factor(top)}/{self._factor(bottom)}"

    def _floor(self, number: Worked) -> str:
        return self._rounded(number, "⌊", "⌋", r"\lfloor", r"\rfloor")

    def _ceil(self, number: Worked) -> str:
        return self._rounded(number, "⌈", "⌉", r"\lceil", r"\rceil")

    def _rounded(self, number: Worked, left: str, right: str, latex_left: str, latex_right: str) -> str:
        top, bottom = number.args
        if self.latex:
            fraction = rf"\frac{{{self.write(top)}}}{{{self.write(bottom)}}}"
            return rf"\left{latex_left} {fraction} \right{latex_right}"
        return f"{left}{self._factor(top)}/{self._factor(bottom)}{right}"

    def _minimum(self, number: Worked) -> str:
        name = r"\min" if self.latex else "min"
        return f"{name}({', '.join(map(self.write, number.args))})"


_TEXT = _Writer(letters=False, latex=False)
_TEXT_LETTERS = _Writer(letters=True, latex=False)
_LATEX = _Writer(letters=False, latex=True)
_LATEX_LETTERS = _Writer(letters=True, latex=True)


def _factors(number: Worked) -> list[Worked]:
    return [f for arg in number.args for f in _factors(arg)] if number.operation == "product" else [number]


def _negated(number: Worked) -> Worked | None:
    """x where the number is (-1)·x, as subtraction builds it."""
    if number.operation != "product":
        return None
    sign, rest = number.args
    return rest if sign.letter == "" and isinstance(sign.value, int) and sign.value == -1 else None


def _is_zero(number: Worked) -> bool:
    return isinstance(number.value, int) and number.value == 0


def _is_one(number: Worked) -> bool:
    return isinstance(number.value, int) and number.value == 1


# Reading the counts of a nest off as worked numbers


def lettered(nest: Nest, inputs: Shape = ()) -> Nest:
    """The nest with every loop a worked number that carries the loop's letter.

    Where an axis of the input is a product that a flatten made (7·7·512), that product stands in its place.
    """
    loops: dict[str, Extent] = {}
    for name, extent in nest.loops.items():
        letter, _, divisor = name.partition("/")
        if divisor:
            parts = nest.loops[divisor]
            loops[name] = exact_div(leaf(letter, extent * parts), leaf(divisor, parts))
        else:
            loops[name] = leaf(name, extent)
    for axis, extent in zip(nest.operands[0].axes, inputs, strict=False):
        if type(axis) is tuple and len(axis) == 1 and extent.operation == "product":
            loops[axis[0]] = extent
    return nest._replace(loops=loops)


def size(nest: Nest, role: Role, but: Collection[str] = ()) -> Worked:
    """Elements of a lettered nest's operands of this role: summed loops in parentheses, then those of the output."""
    written = _output_loops(nest)
    total: Worked | None = None
    for operand in nest.operands:
        if operand.role == role and operand.name not in but:
            dense = [axis for axis in operand.axes if not isinstance(axis, Window | Scatter | Bins)]
            inner = _taps_first(nest, [axis for axis in dense if written.isdisjoint(axis)])
            outer = [nest.extent(axis) for axis in dense if not written.isdisjoint(axis)]
            elements = _arranged(inner, outer)
            total = elements if total is None else total + elements
    return worked(0) if total is None else total


def iterations(nest: Nest) -> Worked:
    """The product of all loops: those of the output, channels last, then the summed ones in parentheses."""
    written = _output_loops(nest)
    inner = _taps_first(nest, [(loop,) for loop in nest.loops if loop not in written])
    outer = channels_last([nest.extent(axis) for axis in _loop_axes(nest)], _channel(nest))
    return worked(prod((*outer, group(worked(prod(inner)))))) if inner else worked(prod(outer))


def output(nest: Nest) -> Worked:
    """Elements the nest writes, channels last."""
    extents = [
        leaf(axis.letter, nest.extent(axis).value) if isinstance(axis, Scatter) else nest.extent(axis)
        for axis in nest.operands[-1].axes
    ]
    return worked(prod(channels_last(extents, _channel(nest))))


def channels_last(extents: list[Extent], channel: int) -> list[Extent]:
    """The extents with the one at `channel` moved to the end, as sizes are written by hand: 224·224·64."""
    return extents[:channel] + extents[channel + 1 :] + extents[channel : channel + 1]


def operations(nests: Iterable[Nest]) -> dict[str, Worked]:
    """Every kind of operation that the nests cost, as worked numbers."""
    result = Ledger()
    for nest in nests:
        runs = iterations(nest)
        result.add({op: runs if times == 1 else times * runs for op, times in nest.ops.items()})
    return dict(result)


def _taps_first(nest: Nest, axes: list[tuple[str, ...]]) -> list[Extent]:
    """Extents of summed axes in the order they are written by hand: kernel taps, then channels."""
    axes_ = [axis for operand in nest.operands for axis in operand.axes]
    windows = [axis.window if isinstance(axis, Scatter) else axis for axis in axes_]
    taps = {axis.tap for axis in windows if isinstance(axis, Window)}
    return [nest.extent(axis) for axis in sorted(axes, key=lambda axis: taps.isdisjoint(axis))]


def _arranged(inner: list[Extent], outer: list[Extent]) -> Worked:
    if not inner:
        return worked(prod(outer))
    return worked(prod((group(worked(prod(inner))), *outer)))


def _loop_axes(nest: Nest) -> list[tuple[str, ...]]:
    """Axes of the output as loops; for bins the one over their taps, for what is added onto the one over the input."""
    loops: list[tuple[str, ...]] = []
    for axis in nest.operands[-1].axes:
        if isinstance(axis, Bins):
            loops.append((axis.loop,))
        elif isinstance(axis, Scatter):
            loops.append((axis.window.out,))
        else:
            assert not isinstance(axis, Window)
            loops.append(axis)
    return loops


_CHANNELS = {"C", "K", "K/G"}


def _channel(nest: Nest) -> int:
    """Position of the output's channels among its axes: 1, and the last where they are last already."""
    axes = nest.operands[-1].axes
    return next(
        (i for i, axis in enumerate(axes) if type(axis) is tuple and not _CHANNELS.isdisjoint(axis)), len(axes) - 1
    )


def _output_loops(nest: Nest) -> set[str]:
    return {loop for axis in _loop_axes(nest) for loop in axis}
