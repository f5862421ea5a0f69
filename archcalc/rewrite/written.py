"""Rewrites as they are typed after a target: NAME, NAME=VALUE, and @REGEX for the layers they are meant for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import getdoc, signature
from typing import Any

from archcalc.errors import InputError
from archcalc.graph import Network
from archcalc.names import unknown
from archcalc.rewrite.convolutions import bottleneck, depthwise_separable, groups, stacked
from archcalc.rewrite.following import activation, batch_norm
from archcalc.rewrite.scaling import resolution, width

REWRITES: dict[str, Callable[..., Network]] = {
    "depthwise-separable": depthwise_separable,
    "stacked": stacked,
    "bottleneck": bottleneck,
    "groups": groups,
    "batch-norm": batch_norm,
    "activation": activation,
    "width": width,
    "resolution": resolution,
}
"""Every rewrite by the name it has on the command line."""


@dataclass(frozen=True)
class Written:
    """A rewrite as it is typed: NAME, NAME=VALUE, and @REGEX for the layers it is meant for."""

    name: str
    value: str | None = None
    layers: str | None = None

    @classmethod
    def read(cls, text: str) -> Written:
        """The parts of a text such as "groups=4@conv5". Raises UnknownNameError."""
        head, _, layers = text.partition("@")
        name, equals, value = head.partition("=")
        if name not in REWRITES:
            raise unknown("rewrite", name, REWRITES)
        return cls(name, value if equals else None, layers or None)

    def apply(self, network: Network) -> Network:
        """The network rewritten. Raises InputError, SpecError, ShapeError."""
        function = REWRITES[self.name]
        _, *parameters = signature(function).parameters.values()
        given: dict[str, Any] = {}
        value = next((one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD), None)
        if self.value is not None:
            if value is None:
                raise InputError(f"the rewrite {self.name} takes no value, such as {self.value!r}")
            given[value.name] = _parsed(self.name, value.annotation, self.value)
        elif value is not None and value.default is value.empty:
            raise InputError(f"the rewrite {self.name} needs a value: {self.name}={value.name.upper()}")
        if self.layers is not None:
            if not any(one.name == "layers" for one in parameters):
                raise InputError(f"the rewrite {self.name} is of the whole network; it takes no layers (@)")
            given["layers"] = self.layers
        return function(network, **given)


def apply(network: Network, text: str) -> Network:
    """The network with the rewrite of this name, as it is typed after a target: "groups=4", "stacked@conv1".

    Raises UnknownNameError, InputError, SpecError where it applies to no layer.

    >>> from archcalc import zoo
    >>> apply(zoo.vgg19(), "width=0.5").name
    'vgg19+width=0.5'
    """
    return replace(Written.read(text).apply(network), name=f"{network.name}+{text}")


def summaries() -> dict[str, str]:
    """Every rewrite as it is typed, and what it does."""
    found = {}
    for name, function in REWRITES.items():
        _, *parameters = signature(function).parameters.values()
        value = next((one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD), None)
        typed = "" if value is None else f"={value.name.upper()}"
        optional = value is not None and value.default is not value.empty
        found[f"{name}[{typed}]" if optional else name + typed] = (getdoc(function) or "").partition("\n")[0]
    return found


def _parsed(name: str, annotation: str, text: str) -> Any:
    try:
        if len(text) > 20:
            raise ValueError
        if annotation == "float":
            above, _, below = text.partition("/")
            return float(above) / float(below or 1)
        return int(text) if annotation == "int" else text
    except (ValueError, ZeroDivisionError):
        wanted = {"int": "a whole number", "float": "a number, such as 0.5 or 1/2"}[annotation]
        raise InputError(f"{name}={text}: the value must be {wanted}") from None
