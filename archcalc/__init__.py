"""archcalc: what every layer of a neural network costs, with the arithmetic shown."""

from typing import Any

from archcalc import zoo
from archcalc.analysis import Report, Row, analyze
from archcalc.errors import ArchcalcError
from archcalc.graph import Builder, Network, Node

__version__ = "0.1.0"

__all__ = ["ArchcalcError", "Builder", "Network", "Node", "Report", "Row", "analyze", "trace", "zoo"]


def trace(module: Any, inputs: Any, /, **kwargs: Any) -> Network:
    """The network that a torch module is on inputs of these shapes; see `archcalc.pytorch.trace.trace`.

    Raises TraceError, MissingPackageError.
    """
    from archcalc.targets import torch_part

    return torch_part("trace").trace(module, inputs, **kwargs)  # type: ignore[no-any-return]
