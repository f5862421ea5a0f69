"""archcalc: what every layer of a neural network costs, with the arithmetic shown."""

from archcalc import zoo
from archcalc.analysis import Report, Row, analyze
from archcalc.errors import ArchcalcError
from archcalc.graph import Builder, Network, Node

__version__ = "0.1.0"

__all__ = ["ArchcalcError", "Builder", "Network", "Node", "Report", "Row", "analyze", "zoo"]
