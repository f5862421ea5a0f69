"""Symbols: SymPy expressions as extents, for closed forms."""

from __future__ import annotations

from typing import Any

from archcalc.errors import MissingPackageError

try:
    import sympy
except ImportError as error:
    raise MissingPackageError(
        'closed forms (a letter in a shape) need SymPy: pip install "archcalc[symbolic]"'
    ) from error


def symbol(name: str) -> Any:
    """A positive whole number that is not yet known."""
    return sympy.Symbol(name, integer=True, positive=True)


def is_extent(expression: Any) -> bool:
    """Whether an expression can be a positive whole number."""
    return expression.is_integer is not False and expression.is_positive is not False


def ceil_div(a: Any, b: Any) -> Any:
    """⌈a/b⌉."""
    return sympy.ceiling(sympy.sympify(a) / b)


def exact_div(a: Any, b: Any) -> Any:
    """a/b where b divides a."""
    return sympy.sympify(a) / b


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two extents."""
    return sympy.Min(a, b)


def differ(a: Any, b: Any) -> bool:
    """Whether two expressions are unequal even where all letters are divisible by whatever they are likely divided by.

    What differs only in how it is rounded may be equal: a network may be meant for such sizes alone.
    """
    difference = sympy.expand(tidy(a) - tidy(b))
    letters = sorted(difference.free_symbols, key=str)
    if not letters:
        return difference.is_zero is False
    points = ({letter: _DIVISIBLE * (i + k) for i, letter in enumerate(letters)} for k in (1, 5))
    return any(difference.subs(point).is_zero is False for point in points)


_DIVISIBLE = 64 * 9 * 25 * 49


def tidy(extent: Any) -> Any:
    """Nested floors and ceilings merged, floors written as ceilings where that is shorter.

    ⌊(⌊x⌋ + n)/m⌋ = ⌊(x + n)/m⌋ and ⌊(x - 1)/m⌋ + 1 = ⌈x/m⌉ for whole n, m and x (Graham, Knuth & Patashnik, Concrete
    Mathematics, section 3.2).
    """
    if not isinstance(extent, sympy.Basic):
        return extent
    merged = extent.replace(sympy.floor, lambda argument: _merged(sympy.floor, argument))
    return merged.replace(lambda part: part.is_Add and sympy.S.One in part.args and len(part.args) == 2, _ceiling)


def _merged(rounding: Any, argument: Any) -> Any:
    """The rounding of an argument whose whole terms may be roundings of the same kind."""
    numerator, denominator = sympy.together(argument).as_numer_denom()
    if denominator.is_Integer:
        terms = sympy.Add.make_args(sympy.expand(numerator))
        if all(term.is_integer for term in terms):
            numerator = sympy.Add(*(term.args[0] if isinstance(term, rounding) else term for term in terms))
    return rounding(sympy.expand(numerator / denominator))


def _ceiling(part: Any) -> Any:
    rounded = next(term for term in part.args if term != 1)
    if not isinstance(rounded, sympy.floor):
        return part
    numerator, denominator = sympy.together(rounded.args[0]).as_numer_denom()
    constant = sympy.expand(numerator).as_coeff_Add()[0]
    if not (denominator.is_Integer and constant.is_Integer and (constant + 1) % denominator == 0):
        return part
    return _merged(sympy.ceiling, (numerator + 1) / denominator)


def solved(step: Any, term: Any, start: Any, count: Any) -> Any:
    """Closed form of what `step`, an expression of the letter `term`, gives when taken `count` times from `start`.

    >>> solved(symbol("r") + 2, symbol("r"), 1, symbol("N"))
    2*N + 1
    """
    n, value = sympy.Symbol("n", integer=True, nonnegative=True), sympy.Function("value")
    solution = sympy.rsolve(value(n + 1) - step.subs(term, value(n)), value(n), {value(0): start})
    return sympy.expand(solution.subs(n, count))
