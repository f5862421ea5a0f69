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
    """Whether two expressions cannot be equal."""
    return sympy.expand(tidy(a) - tidy(b)).is_zero is False


def tidy(extent: Any) -> Any:
    """Merge nested floors: ⌊(⌊x⌋ + n)/m⌋ = ⌊(x + n)/m⌋ for whole n and m (Graham, Knuth, Patashnik, section 3.2)."""
    return extent.replace(sympy.floor, _floor) if isinstance(extent, sympy.Basic) else extent


def _floor(argument: Any) -> Any:
    numerator, denominator = sympy.together(argument).as_numer_denom()
    if denominator.is_Integer:
        terms = sympy.Add.make_args(sympy.expand(numerator))
        if all(term.is_integer for term in terms):
            numerator = sympy.Add(*(term.args[0] if isinstance(term, sympy.floor) else term for term in terms))
    return sympy.floor(sympy.expand(numerator / denominator))
