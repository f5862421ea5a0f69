"""Operations that run outside of any layer: elementwise, reductions, matrix products, views, bare parameters.

A traced module consists of layers and of these. Each is named by the operation it stands for.
"""

from archcalc.layers.operation.compute import (
    GRADLESS,
    Elementwise,
    GroupedMatMul,
    MatMul,
    Ops,
    Reduce,
    WeightNorm,
    broadcast,
)
from archcalc.layers.operation.loose import Constant, Functional, Parameter, Unbatched, Unused
from archcalc.layers.operation.recorded import Bags, Baked, Recorded, Scattered, Uncounted
from archcalc.layers.operation.view import Expand, Pad, Part, Permute, Reshape, Select, Slice, Stack, regrouped

__all__ = [
    "GRADLESS",
    "Bags",
    "Baked",
    "Constant",
    "Elementwise",
    "Expand",
    "Functional",
    "GroupedMatMul",
    "MatMul",
    "Ops",
    "Pad",
    "Parameter",
    "Part",
    "Permute",
    "Recorded",
    "Reduce",
    "Reshape",
    "Scattered",
    "Select",
    "Slice",
    "Stack",
    "Unbatched",
    "Uncounted",
    "Unused",
    "WeightNorm",
    "broadcast",
    "regrouped",
]
