"""The registry of the zoo: what an entry is, how it is found by name, how its choices are read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from reprlib import repr as shorten
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from archcalc.errors import InputError
from archcalc.graph import Network
from archcalc.names import unknown

if TYPE_CHECKING:
    from archcalc.zoo.figures import Figure

Recipe = Callable[..., Network]
R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Reference:
    """A torchvision model, and the choices under which the entry's network equals it.

    `functional` names kinds of layer that it computes without calling a module of their own.
    """

    model: str
    choices: Mapping[str, Any]
    arguments: Mapping[str, Any]
    functional: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Entry:
    """A network of the zoo: its name, the function that builds it, where it was published."""

    name: str
    recipe: Recipe
    family: str
    year: int
    paper: str
    torchvision: Callable[[Mapping[str, Any]], Reference | None] | None

    @property
    def choices(self) -> dict[str, Any]:
        """The entry's own choices with their defaults."""
        return {name: parameter.default for name, parameter in inspect.signature(self.recipe).parameters.items()}

    @property
    def summary(self) -> str:
        """First line of the recipe's docstring."""
        return inspect.getdoc(self.recipe).partition("\n")[0]  # type: ignore[union-attr]

    def build(self, **choices: Any) -> Network:
        """The network for these choices. Raises UnknownNameError, InputError for a choice or value there is not."""
        known = self.choices
        hints = get_type_hints(self.recipe)
        for name, value in choices.items():
            if name not in known:
                raise unknown(f"choice of {self.name}", name, known)
            _check(self.name, name, value, hints[name])
        return self.recipe(**choices)

    def parse(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Choices as they are typed on the command line (`bias=false`). Raises UnknownNameError, InputError."""
        hints = get_type_hints(self.recipe)
        parsed = {}
        for name, text in texts.items():
            if name not in hints or name == "return":
                raise unknown(f"choice of {self.name}", name, self.choices)
            parsed[name] = _parse(self.name, name, text, hints[name])
        return parsed

    def reference(self, choices: Mapping[str, Any]) -> Reference | None:
        """The torchvision model that these choices describe, if there is one."""
        return self.torchvision(self.choices | dict(choices)) if self.torchvision else None

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What papers, courses and tools print about it."""
        from archcalc.zoo.figures import figures

        package, _, module = self.recipe.__module__.rpartition(".")
        return tuple(one for one in figures(module) if one.network == self.name) if package == __package__ else ()


FAMILIES: dict[str, tuple[str, ...]] = {
    "lenet": ("lenet5", "lenet5-cifar10", "lenet-caffe"),
    "alexnets": ("alexnet", "alexnet-torchvision"),
    "ilsvrc2013": ("zfnet", "overfeat"),
    "vgg": ("vgg11", "vgg11-lrn", "vgg13", "vgg16", "vgg16c", "vgg19"),
    "inception": ("inception-naive", "inception-reduced"),
    "googlenets": ("googlenet", "googlenet-torchvision", "minigooglenet"),
    "resnet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "plain18", "plain34"),
    "resnet_cifar": (
        "resnet20",
        "resnet32",
        "resnet44",
        "resnet56",
        "resnet110",
        "resnet1202",
        "resnet18-cifar",
    ),
    "densenet": ("densenet121",),
    "squeezenet": ("squeezenet1-0", "squeezenet1-1"),
    "mobilenet": ("mobilenet-v1", "mobilenet-v2"),
    "vit": ("vit-b-16",),
    "perceptrons": ("mlp", "deep-narrow"),
}
"""The entries of each module of the zoo, so that only the module of the entry asked for is imported."""


class Entries(Mapping[str, Entry]):
    """Entries by name, in the order of FAMILIES and then of registration."""

    def __init__(self) -> None:
        self._modules = {name: module for module, names in FAMILIES.items() for name in names}
        self._known: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        if name not in self._known and name in self._modules:
            import_module(f"archcalc.zoo.{self._modules[name]}")
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._modules or name in self._known

    def __iter__(self) -> Iterator[str]:
        yield from self._modules | self._known

    def __len__(self) -> int:
        return len(self._modules | self._known)

    def add(self, entry: Entry) -> None:
        """Enter one more. Raises ValueError for a name there is already."""
        if entry.name in self._known:
            raise ValueError(f"there are two zoo entries called {entry.name}")
        self._known[entry.name] = entry


ENTRIES = Entries()
"""Every entry."""


def entry(
    name: str,
    *,
    family: str,
    year: int,
    paper: str,
    torchvision: Callable[[Mapping[str, Any]], Reference | None] | None = None,
) -> Callable[[R], R]:
    """Register a function that builds a network from keyword arguments as the entry of this name."""

    def register(recipe: R) -> R:
        ENTRIES.add(Entry(name, recipe, family, year, paper, torchvision))
        return recipe

    return register


def find(name: str) -> Entry:
    """The entry of this name, which may be written as torchvision does. Raises UnknownNameError with near matches.

    >>> find("alexnet_torchvision").name
    'alexnet-torchvision'
    """
    try:
        return ENTRIES[name if name in ENTRIES else name.replace("_", "-")]
    except KeyError:
        raise unknown("network", name, ENTRIES) from None


MOST_DIGITS = 100
"""Longer numbers are not read: Python refuses to write products of more than 4300 digits."""

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _parse(entry_name: str, name: str, text: str, hint: Any) -> Any:
    if hint is bool and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    value: Any = text
    if hint is float and len(text) <= MOST_DIGITS:
        with suppress(ValueError):
            value = float(text)
    if hint is int or (get_origin(hint) is Literal and all(isinstance(choice, int) for choice in get_args(hint))):
        value = int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else text
    _check(entry_name, name, value, hint)
    return value


def _check(entry_name: str, name: str, value: Any, hint: Any) -> None:
    if get_origin(hint) is Literal:
        wanted, fits = " or ".join(map(str, get_args(hint))), type(value) is not bool and value in get_args(hint)
    elif hint is bool:
        wanted, fits = "true or false", isinstance(value, bool)
    elif hint is float:
        wanted, fits = "a number above 0, at most 100", type(value) in (int, float) and 0 < value <= 100
    else:
        wanted, fits = "a whole number of at least 1", type(value) is int and value >= 1
    if not fits:
        raise InputError(f"{entry_name}: {name} is {shorten(value)}; it must be {wanted}")
