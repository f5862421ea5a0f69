"""Modules that are layers: which layer kind states what a torch module computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from torch import Tensor, nn

from archcalc.errors import SpecError
from archcalc.layers import KINDS, Layer

_HARMLESS = {"__init__", "__repr__", "__doc__", "__module__", "extra_repr", "reset_parameters", "__annotations__"}


_HOMES = ("torch.nn.modules.", "archcalc.pytorch.build", "archcalc.pytorch.attention")
"""Where the modules are defined that compute what the kind of their name states."""


DESCRIBED: dict[type, type[Layer]] = {}
"""Module classes of users, and the layer kinds that say what they compute."""

K = TypeVar("K", bound=type[Layer])


def describes(*classes: type[nn.Module]) -> Callable[[K], K]:
    """Register a Layer class, whose fields are attributes of the module, as what modules of these classes compute.

    Raises SpecError for a class that has one.
    """

    def register(kind: K) -> K:
        for one in classes:
            if one in DESCRIBED:
                raise SpecError(f"there is already a layer kind for {one.__name__}")
            DESCRIBED[one] = kind
        return kind

    return register


def layer_of(module: nn.Module) -> Layer | None:
    """The layer of a module whose class is one of torch.nn's with a kind, or a subclass that computes alike."""
    if isinstance(module, nn.MultiheadAttention) and not type(module).__module__.startswith("archcalc.pytorch."):
        return None  # what it computes depends on what it is called with
    if module.__dict__.get("forward") is not None or isinstance(module.__dict__.get("weight"), Tensor):
        return None  # a weight that is no parameter is computed by a hook
    for base in type(module).__mro__:
        if base in DESCRIBED:
            return _converted(module, DESCRIBED[base])
        if base.__module__.startswith(_HOMES) and base.__name__ in KINDS:
            return None if _overrides(type(module), base) else _converted(module, KINDS[base.__name__])
    return None


def plain(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a module is called as its layer kind assumes: without offsets, weights of samples or an output size."""
    if not isinstance(module, nn.EmbeddingBag | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return True
    return sum(value is not None for value in (*args, *kwargs.values())) == 1


def _overrides(cls: type, base: type) -> bool:
    """Whether a class between replaces what the base computes with."""
    for between in cls.__mro__:
        if between is base:
            return False
        if any(
            name not in _HARMLESS and callable(value) and hasattr(base, name) for name, value in vars(between).items()
        ):
            return True
    return False


def _converted(module: nn.Module, kind: type[Layer]) -> Layer | None:
    values: dict[str, Any] = {}
    for field in fields(kind):
        value = getattr(module, field.name, None)
        if isinstance(value, Tensor) or (value is None and field.name == "bias"):
            value = value is not None
        values[field.name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**values)
    except (SpecError, TypeError):
        return None
