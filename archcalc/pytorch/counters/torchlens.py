"""torchlens, which wraps the functions of torch and writes down every call."""

from typing import Any

from torch import nn

from archcalc.pytorch.counters.base import Arguments, Counted, Counter, required, unfused


def count(module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
    """What torchlens calls MACs: the multiply-adds of its formulas, not half of its FLOPs, which have more in them."""
    torchlens = required("torchlens")
    with unfused():
        trace = torchlens.trace(module, list(args), kwargs, save=None)
    unknown = tuple(sorted({one.func_name for one in trace.unknown_flop_ops}))
    return Counted(int(trace.total_macs_forward), None, int(trace.num_params), unknown)


COUNTERS = (Counter("torchlens", "torchlens", count, patches=True),)
