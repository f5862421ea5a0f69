"""Targets: what a user names on the command line, and the input it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shorten
from typing import Any

from archcalc import zoo
from archcalc.analysis import Report, analyze
from archcalc.errors import InputError
from archcalc.extents import Shape, as_shape
from archcalc.graph import Network
from archcalc.zoo.registry import MOST_DIGITS, Entry


@dataclass(frozen=True)
class Target:
    """A network with the input it is to be analysed on, and the zoo entry and choices it came from."""

    network: Network
    shape: Shape
    entry: Entry
    choices: Mapping[str, Any]

    def report(self) -> Report:
        """What every layer costs. Raises ShapeError."""
        return analyze(self.network, self.shape)


def resolve(name: str, settings: Sequence[str] = (), input: str | None = None, batch: str | None = None) -> Target:
    """The network of this name with `key=value` settings, on an input such as "3x224x224".

    Raises UnknownNameError for a name or key there is not, InputError for a value or input that cannot be read.

    >>> resolve("vgg19", ["bias=false"], input="3x64x64", batch="8").shape
    (8, 3, 64, 64)
    """
    entry = zoo.find(name)
    choices = entry.parse(dict(map(_setting, settings)))
    network = entry.build(**choices)
    own = network.input_nodes[0].layer.output()[1:]
    image = own if input is None else parse_extents(input)
    if len(image) != len(own):
        raise InputError(
            f"--input {input} has {len(image)} extents; {network.name} takes {len(own)}, "
            f"without the batch, such as {'x'.join(map(str, own))}"
        )
    return Target(network, as_shape((1 if batch is None else parse_batch(batch), *image)), entry, choices)


def parse_batch(text: str) -> int | str:
    """A batch size as typed: "8", "N". Raises InputError."""
    extent = _extent(text)
    if extent is None:
        raise InputError(
            f"cannot read --batch {shorten(text)}: it must be a positive whole number, or a letter, such as 8 or N"
        )
    return extent


def parse_extents(text: str) -> tuple[int | str, ...]:
    """Extents as typed, without the batch: "3x224x224", "3xHxW", "784". Raises InputError.

    >>> parse_extents("3xHxW")
    (3, 'H', 'W')
    """
    extents = []
    for part in text.replace("×", "x").replace(",", "x").split("x"):
        extent = _extent(part)
        if extent is None:
            raise InputError(
                f"cannot read --input {shorten(text)}: extents are positive whole numbers or letters joined by x, "
                "without the batch, such as 3x224x224 or 3xHxW"
            )
        extents.append(extent)
    return tuple(extents)


def _extent(text: str) -> int | str | None:
    """One extent as typed; None where it is none, or longer than any that means something."""
    text = text.strip()
    if not text.isascii() or len(text) > MOST_DIGITS:
        return None
    if text.isdigit():
        return int(text) or None
    return text if text.isidentifier() else None


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set takes key=value, such as bias=false, not {text!r}")
    return key.strip().replace("-", "_"), value.strip()
