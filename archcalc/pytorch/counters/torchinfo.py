"""torchinfo's summary."""

from typing import Any

from torch import nn

from archcalc.pytorch.counters.base import Arguments, Counted, Counter, leaves, required, unfused


def count(module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
    """What torchinfo calls mult-adds: those of leaf modules, so functional calls are not among them.

    It lists a module once for each call; calls after the first are "recursive": their mult-adds are added to the total
    all the same, their parameters are not.
    """
    torchinfo = required("torchinfo")
    try:
        with unfused():
            summary = torchinfo.summary(module, input_data=list(args), mode="eval", verbose=0, **kwargs)
    finally:
        torchinfo.torchinfo.clear_cached_forward_pass()  # a global that would keep the module alive
    paths = leaves(module)
    layers = dict.fromkeys(paths.values(), 0)
    for call in summary.summary_list:
        if call.is_leaf_layer:
            layers[paths[call.layer_id]] += call.macs
    return Counted(int(summary.total_mult_adds), layers, int(summary.total_params))


COUNTERS = (Counter("torchinfo", "torchinfo", count),)
