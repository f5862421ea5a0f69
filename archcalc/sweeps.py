"""Sweeps: int64 arrays as extents, whose arithmetic raises instead of wrapping round."""

from __future__ import annotations

from typing import Any

import numpy as np  # noqa: TID253 - only imported once an array has been passed in

from archcalc.errors import InputError

_CHECKED = (np.add, np.subtract, np.multiply)


class Sweep(np.ndarray[Any, np.dtype[np.int64]]):
    """An int64 array whose sums and products raise InputError where they would leave the int64 range."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [np.asarray(x) if isinstance(x, Sweep) else x for x in inputs]
        try:
            result = getattr(ufunc, method)(*plain, **kwargs)
        except OverflowError as error:
            raise _overflow() from error
        if ufunc in _CHECKED and method == "__call__" and _overflows(ufunc, *plain):
            raise _overflow()
        return result.view(Sweep) if isinstance(result, np.ndarray) and result.dtype == np.int64 else result


def ceil_div(a: Any, b: Any) -> Any:
    """Elementwise ⌈a/b⌉."""
    return -(-a // b)


def exact_div(a: Any, b: Any) -> Any:
    """Elementwise a/b where b divides a."""
    return a // b


def minimum(a: Any, b: Any) -> Any:
    """Elementwise smaller of two extents."""
    return np.minimum(a, b)


def differ(a: Any, b: Any) -> bool:
    """Whether two extents differ anywhere."""
    return bool(np.any(np.asarray(a) != np.asarray(b)))


def tidy(extent: Any) -> Any:
    """A sweep as it is."""
    return extent


def as_sweep(values: Any) -> Sweep | None:
    """The values as a sweep; None when they are not whole numbers that int64 holds."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.size == 0:
        return None
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        return None
    return array.astype(np.int64).view(Sweep)


def _overflows(ufunc: np.ufunc, a: Any, b: Any) -> bool:
    """Whether exact arithmetic leaves int64; the bounds settle it for nearly all, object arithmetic for the rest."""
    limit = np.iinfo(np.int64)
    corners = [ufunc(x, y) for x in _bounds(a) for y in _bounds(b)]
    if all(limit.min <= int(corner) <= limit.max for corner in corners):
        return False
    exact = ufunc(np.asarray(a, dtype=object), np.asarray(b, dtype=object))
    return bool(((exact > limit.max) | (exact < limit.min)).any())


def _bounds(x: Any) -> tuple[Any, Any]:
    array = np.asarray(x)
    return np.asarray(int(array.min()), dtype=object), np.asarray(int(array.max()), dtype=object)


def _overflow() -> InputError:
    return InputError("a count in this sweep is larger than int64 holds (9.22e18); use smaller extents, or plain ints")
