"""Targets: what a user names on the command line, and the input it is given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from reprlib import repr as shorten
from typing import Any

from archcalc import zoo
from archcalc.analysis import Report, analyze
from archcalc.errors import InputError, MissingPackageError
from archcalc.extents import Shape, as_shape
from archcalc.graph import Network
from archcalc.zoo.registry import MOST_DIGITS, Entry


@dataclass(frozen=True)
class Target:
    """A network with the input it is to be analysed on, and the zoo entry or the torch module it came from."""

    network: Network
    shape: Shape
    entry: Entry | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)
    make: Callable[[], Any] | None = None

    def report(self) -> Report:
        """What every layer costs. Raises ShapeError."""
        return analyze(self.network, self.shape)


def resolve(name: str, settings: Sequence[str] = (), input: str | None = None, batch: str | None = None) -> Target:
    """The network of this name with `key=value` settings, on an input such as "3x224x224".

    The name is a zoo entry's, a spec file's (`net.yaml`), or `torch:package.module:callable`, which is traced, by
    default on an image of 3x224x224.
    Raises UnknownNameError for a name or key there is not, InputError for a value or input that cannot be read.

    >>> resolve("vgg19", ["bias=false"], input="3x64x64", batch="8").shape
    (8, 3, 64, 64)
    """
    chosen = dict(map(_setting, settings))
    if name.startswith("torch:"):
        return _traced(name.removeprefix("torch:"), chosen, input or "3x224x224", batch)
    entry, choices = None, {}
    if name.endswith((".yaml", ".yml")):
        if chosen:
            raise InputError(f"{name} has no choices for --set: write them into the file")
        network = import_module("archcalc.specfile").load(name)
    else:
        entry = zoo.find(name)
        choices = entry.parse(chosen)
        network = entry.build(**choices)
    own = network.input_nodes[0].layer.output()[1:]
    image = own if input is None else parse_extents(input)
    if len(image) != len(own):
        raise InputError(
            f"--input {input} has {len(image)} extents; {network.name} takes {len(own)}, "
            f"without the batch, such as {'x'.join(map(str, own))}"
        )
    return Target(network, as_shape((1 if batch is None else parse_batch(batch), *image)), entry, choices)


def _traced(path: str, settings: Mapping[str, str], input: str, batch: str | None) -> Target:
    """The module of this name, traced where extents are numbers; a letter is put in afterwards."""
    load = torch_part("load")
    name, make = load.load(path, settings)
    shape = as_shape((1 if batch is None else parse_batch(batch), *parse_extents(input)))
    seen = tuple(
        extent if type(extent) is int else usual for extent, usual in zip(shape, (1, 3, 224, 224), strict=False)
    )
    with redirect_stdout(sys.stderr):  # what a module prints is not part of the report
        network = torch_part("trace").trace(load.without_data(make), seen, name=name)
    return Target(network, shape, make=make)


def torch_part(module: str) -> Any:
    """A module of archcalc.pytorch. Raises MissingPackageError where there is no PyTorch."""
    try:
        return import_module(f"archcalc.pytorch.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("torch", "torchvision"):
            raise
        raise MissingPackageError(f'this needs {error.name}: pip install "archcalc[torch]"') from error


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
