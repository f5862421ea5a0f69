"""archcalc: what every layer of a neural network costs, with the arithmetic shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archcalc import zoo
from archcalc.analysis import Report, Row, analyze
from archcalc.errors import ArchcalcError
from archcalc.graph import Builder, Network, Node
from archcalc.targets import torch_part

if TYPE_CHECKING:
    from archcalc import rewrite
    from archcalc.footprint import Memory
    from archcalc.plots.canvas import Plot
    from archcalc.verdicts import Published

__version__ = "0.1.0"

__all__ = [
    "ArchcalcError",
    "Builder",
    "Network",
    "Node",
    "Report",
    "Row",
    "analyze",
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


def __getattr__(name: str) -> Any:
    if name == "rewrite":
        from importlib import import_module

        return import_module("archcalc.rewrite")
    raise AttributeError(f"module 'archcalc' has no attribute {name!r}")


def memory(
    target: Network | Report, *, batch: int | None = None, dtype: str = "float32", optimizer: str = "sgd"
) -> Memory:
    """What inference and training hold in memory; see `archcalc.footprint.memory`. Raises InputError."""
    from archcalc import footprint

    return footprint.memory(target, batch=batch, dtype=dtype, optimizer=optimizer)


def plot(*targets: Network | Report, **options: Any) -> Plot:
    """Bars by layer of a network, or of the totals of several; see `archcalc.plots.plot`.

    Raises UnknownNameError, InputError, MissingPackageError.
    """
    from archcalc.plots import plot

    return plot(*targets, **options)


def trace(module: Any, inputs: Any, /, **kwargs: Any) -> Network:
    """The network that a torch module is on inputs of these shapes; see `archcalc.pytorch.trace.trace`.

    Raises TraceError, MissingPackageError.
    """
    return torch_part("trace").trace(module, inputs, **kwargs)  # type: ignore[no-any-return]


def load(path: str) -> Network:
    """The network that a YAML file describes; see `archcalc.specfile`. Raises InputError, SpecError, ShapeError."""
    from archcalc.specfile import load

    return load(path)


def save(network: Network, path: str) -> None:
    """Write a network to a spec file, from which `load` reads an equal one. Raises InputError, SpecError."""
    from archcalc.specfile import save

    save(network, path)


def operation(*names: str | type) -> Any:
    """Decorator: register what an operation that tracing has no rule for costs.

    On a function it takes operation names and gives the layer of a call (`archcalc.pytorch.operations.operation`); on
    a Layer class it takes the class of the modules that the layer describes (`archcalc.pytorch.modules.describes`).
    """
    if names and all(isinstance(name, type) for name in names):
        return torch_part("modules").describes(*names)
    return torch_part("operations").operation(*names)


def published(target: str | None = None) -> Published:
    """Published figures of a network of the zoo, of a family, or of all, beside ours; see `archcalc.verdicts`.

    Raises UnknownNameError.
    """
    from archcalc.verdicts import published

    return published(target)
