"""Sweeps: int64 arrays as extents, whose arithmetic raises instead of wrapping round."""

from __future__ import annotations

from typing import Any

import numpy as np  # noqa: TID253 - only imported once an array has been passed in

from archcalc.errors import InputError

_BOUNDED = (np.add, np.subtract, np.multiply)
"""Operations whose results are bounded by those of the extreme inputs, so that two numbers settle most cases."""

_SAFE = (np.floor_divide, np.remainder, np.minimum, np.maximum, np.negative, np.absolute, np.positive, np.sign)
"""Operations on counts that cannot leave the int64 range."""


class Sweep(np.ndarray[Any, np.dtype[np.int64]]):
    """An int64 array whose arithmetic raises InputError where it would leave the int64 range."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [np.asarray(x) if isinstance(x, Sweep) else x for x in inputs]
        try:
            result = getattr(ufunc, method)(*plain, **kwargs)
        except OverflowError as error:
            raise _overflow() from error
        if _is_int64(result) and ufunc not in _SAFE and _overflows(ufunc, method, plain, kwargs, result):
            raise _overflow()
        return result.view(Sweep) if isinstance(result, np.ndarray) and _is_int64(result) else result


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


def _overflows(ufunc: np.ufunc, method: str, inputs: list[Any], kwargs: dict[str, Any], result: Any) -> bool:
    """Whether exact arithmetic gives anything else than int64 did; bounds settle it for most sums and products."""
    limit = np.iinfo(np.int64)
    if ufunc in _BOUNDED and method == "__call__":
        corners = [ufunc(x, y) for x in _bounds(inputs[0]) for y in _bounds(inputs[1])]
        if all(limit.min <= int(corner) <= limit.max for corner in corners):
            return False
    options = {name: value for name, value in kwargs.items() if name not in ("out", "dtype")}
    exact = getattr(ufunc, method)(*(np.asarray(x, dtype=object) for x in inputs), **options)
    return bool(np.any(exact != np.asarray(result, dtype=object)))


def _is_int64(value: Any) -> bool:
    return bool(getattr(value, "dtype", None) == np.int64)


def _bounds(x: Any) -> tuple[Any, Any]:
    array = np.asarray(x)
    return np.asarray(int(array.min()), dtype=object), np.asarray(int(array.max()), dtype=object)


def _overflow() -> InputError:
    return InputError("a count in this sweep is larger than int64 holds (9.22e18); use smaller extents, or plain ints")
