"""The only number formatter: exact counts, rounded quantities, shapes, and how to write them in LaTeX and ASCII."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from math import isfinite
from operator import index
from typing import Any

_PREFIXES = ("", "K", "M", "G", "T", "P", "E")
_SECONDS = {0: "s", -1: "ms", -2: "µs", -3: "ns"}
_ASCII = str.maketrans(
    {"·": "*", "×": "x", "÷": "/", "−": "-", "–": "-", "—": "-", "±": "+-", "√": "sqrt", "²": "^2", "³": "^3"}
    | {"⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")", "…": "...", "→": "->", "←": "<-", "•": "*", "∞": "inf"}
    | {"≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "µ": "u", "μ": "u", "Σ": "sum", "∑": "sum", "∂": "d", "Δ": "delta"}
    | {"│": "|", "─": "-", "┼": "+"}
    | {"‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "\u202f": " "}
)
_MATH = str.maketrans(
    {",": "{,}", "−": "-", "·": r" \cdot ", "×": r" \times ", "…": r"\ldots "}
    | {"⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil "}
)
_BRACKETS = {"floor(": ("⌊", "⌋"), "ceiling(": ("⌈", "⌉"), "(": ("(", ")")}
_EXTENTS = "NGKCRSPQHW"


def ascii(text: str) -> str:
    """Transliterate to pure ASCII; what has no transliteration becomes a question mark.

    >>> ascii("⌊H/2⌋·64 ≥ 1×3")
    'floor(H/2)*64 >= 1x3'
    """
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def exact(n: object) -> int | None:
    """Return n as an int where it is one, be it Python's, NumPy's or SymPy's; None where it is not."""
    try:
        return index(n)  # type: ignore[arg-type]
    except TypeError:
        return None


def count(n: object) -> str:
    """Write an exact number, a closed form, or the range of an array.

    >>> count(86704128)
    '86,704,128'
    """
    whole = exact(n)
    if whole is not None:
        return _minus(f"{whole:,}")
    if isinstance(n, float):
        return _minus(f"{n:,.0f}" if abs(n) >= 1000 or not isfinite(n) else _scaled(n, 4, 0, 0)[0])
    if hasattr(n, "size") and hasattr(n, "min"):
        return _span(n)
    return _closed_form(str(n))


def latex(n: object) -> str:
    r"""Write what `count` takes as LaTeX, to be put between dollar signs.

    >>> print(latex(1728))
    1{,}728
    """
    if exact(n) is None and any(str(kind.__module__).partition(".")[0] == "sympy" for kind in type(n).__mro__):
        import sympy

        return _ordered(str(sympy.latex(n)), " ", r"\^\{\d+\}")
    words_upright = re.sub(r" ?[^\W\d_]{2,}", lambda word: rf"\text{{{word[0]}}}", count(n))
    return words_upright.replace(" (", r"\ (").translate(_MATH)


def si(n: object, unit: str = "", digits: int = 4) -> str:
    """Round to significant digits with a decimal prefix; an integer below 1000 stays as it is.

    >>> si(19632062464, "MAC")
    '19.63 GMAC'
    """
    value = _number(n)
    if value is None or (isinstance(value, int) and abs(value) < 1000):
        return f"{count(n)} {unit}".rstrip()
    text, step = _scaled(value, digits, 0, len(_PREFIXES) - 1)
    return f"{text} {_PREFIXES[step]}{unit}".rstrip()


def percent(x: float) -> str:
    """Write a fraction of one as a percentage: 0.457 is '45.7%'; what is not zero is not shown as zero."""
    return "<0.1%" if 0 < x < 0.0005 else _minus(f"{x:,.1%}")


def ratio(x: float) -> str:
    """Write a factor: '2.13×'."""
    return f"{_scaled(x, 3, 0, 0)[0]}×"


def seconds(x: float) -> str:
    """Write a duration in s, ms, µs or ns: 0.00123 is '1.23 ms'."""
    text, step = _scaled(x, 3, min(_SECONDS), 0)
    return f"{text} {_SECONDS[step]}"


def mb(nbytes: object) -> str:
    """Write bytes in units of 10^6: '574.67 MB'."""
    return _bytes(nbytes, 10**6, "MB")


def mib(nbytes: object) -> str:
    """Write bytes in units of 2^20: '548.05 MiB'."""
    return _bytes(nbytes, 2**20, "MiB")


def shape(dims: Iterable[object]) -> str:
    """Write a tensor's shape, sums and quotients in parentheses.

    >>> shape((1, 64, 224, 224))
    '1×64×224×224'
    """
    return "×".join(_extent(dim) for dim in dims) or "scalar"


def _extent(dim: object) -> str:
    whole = exact(dim)
    text = count(dim) if whole is None else _minus(str(whole))
    outer, found = text, 1
    while found:
        outer, found = re.subn(r"[⌊⌈(][^⌊⌈()⌉⌋]*[⌋⌉)]", "", outer)
    return f"({text})" if re.search("[ /]", outer) else text


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _number(n: object) -> int | float | None:
    whole = exact(n)
    return whole if whole is not None else n if isinstance(n, float) and isfinite(n) else None


def _scaled(x: float, digits: int, lowest: int, highest: int) -> tuple[str, int]:
    """Round to significant digits and scale by a power of 1000 between two; return the text and that power."""
    if x == 0 or not isfinite(x):
        return _minus(f"{x + 0:g}"), 0
    rounded = Decimal(f"{Decimal(x):.{digits - 1}e}")
    step = min(max(rounded.adjusted() // 3, lowest), highest)
    return _minus(f"{rounded.scaleb(-3 * step):,f}"), step


def _bytes(nbytes: object, size: int, unit: str) -> str:
    value = _number(nbytes)
    if value is None:
        return f"{count(nbytes)} B"
    return f"<0.01 {unit}" if 0 < value < size / 200 else _minus(f"{value / size:,.2f} {unit}")


def _span(array: Any) -> str:
    if array.size == 0:
        return "(0 values)"
    low, high = (count(getattr(end, "item", lambda end=end: end)()) for end in (array.min(), array.max()))
    if array.size == 1:
        return low
    return f"{low if low == high else f'{low} … {high}'} ({array.size} values)"


def _closed_form(text: str) -> str:
    closers: list[str] = []

    def bracket(found: re.Match[str]) -> str:
        if found[0] == ")":
            return closers.pop() if closers else ")"
        opener, closer = _BRACKETS[found[0]]
        closers.append(closer)
        return opener

    written = re.sub(r"\bfloor\(|\bceiling\(|[()]", bracket, text).replace("**", "^").replace("*", "·")
    return _ordered(_minus(written), "·", r"\^\d+")


def _ordered(text: str, times: str, power: str) -> str:
    """Sort each product of one-letter extents as tensors are indexed: SymPy's H·N·W becomes N·H·W."""
    factor = rf"[A-Z](?:{power})?"
    products = rf"(?<![\w/^.]){factor}(?:{times}{factor})+(?![\w(^.!])"
    return re.sub(products, lambda run: times.join(sorted(run[0].split(times), key=_rank)), text)


def _rank(factor: str) -> int:
    return _EXTENTS.find(factor[0]) % (len(_EXTENTS) + 1)
