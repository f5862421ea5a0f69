"""Extents: the numbers that shape rules are made of, and the few operations Python has no polymorphic operator for.

An extent is an `int`, a SymPy expression, an array of int64 (a sweep) or a `Worked` number that remembers how it was
computed. Rules combine extents with `+ - * //` and the functions below, and never branch on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, TypeAlias

from archcalc.errors import InputError

Extent: TypeAlias = Any
"""int, SymPy expression, NumPy int64 array or `Worked` number."""

Shape: TypeAlias = tuple[Extent, ...]
"""One extent for each axis: (N, C, H, W) for images, (N, C) for vectors."""


def prod(extents: Iterable[Extent]) -> Extent:
    """Product of extents; 1 when there are none.

    >>> prod((7, 7, 512))
    25088
    """
    result: Extent = None
    for extent in extents:
        result = extent if result is None else result * extent
    return 1 if result is None else result


def ceil_div(a: Extent, b: Extent) -> Extent:
    """⌈a/b⌉.

    >>> ceil_div(7, 2)
    4
    """
    backend = _backend(a, b)
    return -(-a // b) if backend is None else backend.ceil_div(a, b)


def exact_div(a: Extent, b: Extent) -> Extent:
    """a/b where b is known to divide a, so that no floor is written.

    >>> exact_div(96, 2)
    48
    """
    backend = _backend(a, b)
    return a // b if backend is None else backend.exact_div(a, b)


def minimum(a: Extent, b: Extent) -> Extent:
    """The smaller of two extents.

    >>> minimum(3, 5)
    3
    """
    backend = _backend(a, b)
    return min(a, b) if backend is None else backend.minimum(a, b)


def tidy(extent: Extent) -> Extent:
    """The extent with nested floors of symbolic numbers merged: ⌊⌊H/2⌋/2⌋ becomes ⌊H/4⌋; other numbers as they are."""
    backend = _backend(extent)
    return extent if backend is None else backend.tidy(extent)


def differ(a: Extent, b: Extent) -> bool:
    """Whether two extents are known to differ: for a sweep anywhere in it; undecided symbolic ones do not.

    >>> differ(3, 5)
    True
    """
    backend = _backend(a, b)
    return bool(a != b) if backend is None else backend.differ(a, b)


def same(a: Extent, b: Extent) -> bool:
    """Whether two extents are known to be equal, in a sweep everywhere; undecided symbolic ones are not.

    >>> same(3, 3)
    True
    """
    backend = _backend(a, b)
    return bool(a == b) if backend is None or backend.__name__ == "archcalc.symbols" else not backend.differ(a, b)


def surely(condition: Any) -> bool:
    """Whether a comparison of extents holds: for a sweep anywhere in it; an undecided symbolic one does not.

    >>> surely(3 < 5)
    True
    """
    if isinstance(condition, bool):
        return condition
    if hasattr(condition, "any"):
        return bool(condition.any())
    return bool(condition == True)  # noqa: E712 - SymPy's true equals True; an undecided relation does not


def as_shape(dims: Sequence[Any]) -> Shape:
    """The shape a user means: ints stay, names such as "H" become SymPy symbols, integer arrays become sweeps.

    Raises InputError for anything that is not a positive whole number, a name, an expression or an array of these.

    >>> as_shape((1, 3, 224, 224))
    (1, 3, 224, 224)
    """
    if isinstance(dims, str) or not hasattr(dims, "__len__") or not len(dims):
        raise InputError(f"an input shape is a sequence of extents such as (1, 3, 224, 224), not {dims!r}")
    shape = tuple(dim if type(dim) is int and dim > 0 else _as_extent(dim, dims) for dim in dims)
    backends = {backend.__name__ for backend in map(_backend, shape) if backend is not None}
    if len(backends) > 1:
        raise InputError(f"the input shape {tuple(dims)!r} mixes names and arrays; use one or the other")
    return shape


def _as_extent(dim: Any, dims: Sequence[Any]) -> Extent:
    if isinstance(dim, str) and dim.isidentifier():
        return import_module("archcalc.symbols").symbol(dim)
    backend = _backend(dim)
    library = "" if backend is None else backend.__name__
    if library == "archcalc.symbols" and backend.is_extent(dim):
        return int(dim) if dim.is_Integer else dim
    if library == "archcalc.sweeps" or (not library and not isinstance(dim, bool) and hasattr(dim, "__index__")):
        sweep = import_module("archcalc.sweeps").as_sweep(dim)
        if sweep is not None and (sweep >= 1).all():
            return sweep if sweep.ndim else int(sweep)
    raise InputError(
        f"the input shape {tuple(dims)!r} has the extent {dim!r}; "
        "an extent is a positive whole number, a name such as 'H', or an array of positive whole numbers"
    )


_BACKENDS = {"sympy": "archcalc.symbols", "numpy": "archcalc.sweeps", "archcalc": "archcalc.working"}


def _backend(*numbers: Extent) -> Any:
    """The module that knows how to round, divide and compare these numbers; None for plain ints."""
    for number in numbers:
        if type(number) is not int:
            for base in type(number).__mro__:
                module = _BACKENDS.get(base.__module__.partition(".")[0])
                if module is not None:
                    return import_module("archcalc.sweeps" if base.__name__ == "Sweep" else module)
    return None
