"""Printed numbers: what "60 million", "0.27M" or "159K" says, and whether another number rounds or truncates to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Literal, TypeAlias

from archcalc.errors import InputError

Kind: TypeAlias = Literal["exact", "rounds to it", "truncates to it"]

_SCALES = {
    **dict.fromkeys(("", "×", "C²"), Fraction(1)),
    "%": Fraction(1, 100),
    **dict.fromkeys(("million", "M"), Fraction(10**6)),
    **dict.fromkeys(("billion", "G"), Fraction(10**9)),
}
_WORDS = {"thirteen": "13"}
_NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?\s*(\D*)")
_SEVERAL = re.compile(r"\d+(?:×\d+)+|\d+(?:, \d+)+")


@dataclass(frozen=True)
class Match:
    """How a number becomes a printed one, and to how many digits."""

    kind: Kind
    digits: int = 0


@dataclass(frozen=True)
class Printed:
    """A number as it is printed: its value, and the places of its last digit and of the last that is sure to count."""

    value: Fraction
    written: Fraction
    sure: Fraction

    def match(self, number: Fraction) -> Match | None:
        """How the number becomes this one: exactly, or rounded (halves up) at a place that may be meant, or cut off.

        >>> read("60 million").match(Fraction(60_965_224))
        Match(kind='rounds to it', digits=1)
        >>> read("3.8 billion").match(Fraction(3_857_973_248))
        Match(kind='truncates to it', digits=2)
        """
        if number == self.value:
            return Match("exact")
        for kind, half in (("rounds to it", Fraction(1, 2)), ("truncates to it", Fraction(0))):
            for place in self._places():
                if floor(number / place + half) * place == self.value:
                    return Match(kind, len(str(int(self.value / place))))  # type: ignore[arg-type]
        return None

    def _places(self) -> Iterator[Fraction]:
        place = self.written
        while place <= self.sure:
            yield place
            place *= 10


def read(text: str, kilo: int = 1000, *, whole: bool = False) -> Printed:
    """A number as papers print it: "650,000", "60 million", "0.27M", "81%". Raises InputError.

    Zeros that end a whole number may be digits or fill up places (60 million may be meant to the million or to ten);
    after a decimal point, and where `whole`, they are digits.

    >>> read("60 million") == Printed(Fraction(60_000_000), Fraction(1_000_000), Fraction(10_000_000))
    True
    """
    found = _NUMBER.fullmatch(_WORDS.get(text, text))
    scales = _SCALES | {"K": Fraction(kilo), "k": Fraction(kilo), "MB": Fraction(kilo**2)}
    if found is None or found[3].strip() not in scales:
        raise InputError(f"cannot read the printed number {text!r}")
    units, decimals, scale = found[1].replace(",", ""), found[2] or "", scales[found[3].strip()]
    written = scale / 10 ** len(decimals[1:])
    zeros = 0 if decimals or whole else len(units) - len(units.rstrip("0"))
    return Printed(Fraction(units + decimals) * scale, written, written * 10**zeros)


def read_several(text: str) -> tuple[int, ...]:
    """A shape or a list of widths: "28×28×672", "128, 192, 96". Raises InputError."""
    if not _SEVERAL.fullmatch(text):
        raise InputError(f"cannot read the printed numbers {text!r}")
    return tuple(map(int, re.findall(r"\d+", text)))
