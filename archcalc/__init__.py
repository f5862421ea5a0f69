"""archcalc: what every layer of a neural network costs, with the arithmetic shown."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from archcalc import errors, layers, zoo
from archcalc.analysis import Report, Row, analyze
from archcalc.errors import ArchcalcError
from archcalc.graph import Builder, Network, Node
from archcalc.targets import torch_part

if TYPE_CHECKING:
    from archcalc import rewrite
    from archcalc.footprint import memory
    from archcalc.plots import plot
    from archcalc.specfile import load, save
    from archcalc.verdicts import published

__version__ = "0.1.0"

__all__ = [
    "ArchcalcError",
    "Builder",
    "Network",
    "Node",
    "Report",
    "Row",
    "analyze",
    "errors",
    "layers",
    "load",
    "memory",
    "operation",
    "plot",
    "published",
    "rewrite",
    "save",
    "trace",
    "zoo",
]


_LATER = {"load": "specfile", "memory": "footprint", "plot": "plots", "published": "verdicts", "save": "specfile"}
"""Functions whose modules are imported when they are first asked for."""

_R = TypeVar("_R", bound=Callable[..., Any])


if not TYPE_CHECKING:  # which would take any name for one of these

    def __getattr__(name: str) -> Any:
        if name in _LATER:
            return getattr(import_module(f"archcalc.{_LATER[name]}"), name)
        if name == "rewrite":
            return import_module("archcalc.rewrite")
        raise AttributeError(f"module 'archcalc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def trace(module: Any, inputs: Any, /, **kwargs: Any) -> Network:
    """The network that a torch module is on inputs of these shapes; see `archcalc.pytorch.trace.trace`.

    `inputs` is a shape, a tensor, or a sequence of positional arguments; keyword arguments go to the module, but for
    `name`, which names the network. Raises TraceError, MissingPackageError.
    """
    return torch_part("trace").trace(module, inputs, **kwargs)  # type: ignore[no-any-return]


def operation(*names: str | type) -> Callable[[_R], _R]:
    """Decorator: register what an operation that tracing has no rule for costs.

    On a function it takes operation names and gives the layer of a call (`archcalc.pytorch.operations.operation`); on
    a Layer class it takes the class of the modules that the layer describes (`archcalc.pytorch.modules.describes`).
    Raises MissingPackageError.
    """
    if names and all(isinstance(name, type) for name in names):
        return torch_part("modules").describes(*names)  # type: ignore[no-any-return]
    return torch_part("operations").operation(*names)  # type: ignore[no-any-return]
