"""calflops' CalFlopsPipline, which its calculate_flops runs."""

from typing import Any

import torch
from torch import nn

from archcalc.pytorch.counters.base import Arguments, Counted, Counter, leaves, required, unfused


def count(module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
    """What calflops calls MACs, with gradients on and without the encoder's fast path.

    Its calculate_flops cannot take a module without parameters, and leaves its patches behind where a module fails
    and on baddbmm always, which then counts once more for each module counted before; here all are taken back.
    """
    pipeline = required("calflops.calculate_pipline").CalFlopsPipline(module, False, 2.0)
    baddbmm = torch.baddbmm
    with torch.enable_grad(), unfused():
        try:
            pipeline.start_flops_calculate()
            module(*args, **kwargs)
            paths = leaves(module)
            layers = {paths[id(one)]: int(vars(one)["__macs__"]) for one in module.modules() if id(one) in paths}
            total, params = pipeline.get_total_macs(), pipeline.get_total_params()
        finally:
            pipeline.end_flops_calculate()
            torch.baddbmm = baddbmm
    return Counted(int(total), layers, int(params))


COUNTERS = (Counter("calflops", "calflops", count, patches=True, needs=("transformers",)),)
