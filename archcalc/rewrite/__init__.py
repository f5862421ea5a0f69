"""What-ifs: rewrites that take a network and return a new one, which can be rewritten again.

Between the layers that take another's place stands what stands after it, its batch norm and its activation, as in the
networks these rewrites come from. New layers are named after the one they replace: conv1_1.depthwise.
"""

from __future__ import annotations

from archcalc.rewrite.convolutions import bottleneck, depthwise_separable, groups, macs_ratio, stacked
from archcalc.rewrite.following import activation, batch_norm
from archcalc.rewrite.scaling import on_input, resolution, width
from archcalc.rewrite.written import REWRITES, Written, apply, summaries

__all__ = [
    "REWRITES",
    "Written",
    "activation",
    "apply",
    "batch_norm",
    "bottleneck",
    "depthwise_separable",
    "groups",
    "macs_ratio",
    "on_input",
    "resolution",
    "stacked",
    "summaries",
    "width",
]
