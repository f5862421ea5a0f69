"""DeepSpeed's FlopsProfiler."""

import os
from typing import Any

import torch
from torch import nn

from archcalc.pytorch.counters.base import Arguments, Counted, Counter, leaves, required, unfused


def count(module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
    """What DeepSpeed calls MACs, with gradients on and without the encoder's fast path."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else it looks for compilers and devices
    profiler = required("deepspeed.profiling.flops_profiler").FlopsProfiler(module)
    with torch.enable_grad(), unfused():
        profiler.start_profile()
        try:
            module(*args, **kwargs)
            paths = leaves(module)
            layers = {paths[id(one)]: int(vars(one)["__macs__"]) for one in module.modules() if id(one) in paths}
            total, params = profiler.get_total_macs(), profiler.get_total_params()
        finally:
            profiler.end_profile()
    return Counted(int(total), layers, int(params))


COUNTERS = (Counter("deepspeed", "deepspeed", count, patches=True),)
