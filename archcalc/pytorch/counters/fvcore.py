"""fvcore's FlopCountAnalysis."""

from types import TracebackType
from typing import Any

import torch
from torch import nn

from archcalc.pytorch.counters.base import Arguments, Counted, Counter, leaves, positional, required, unfused, whole


def count(module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
    """What fvcore calls flops: one per multiply-add, and what it adds for normalisation, pooling and upsampling.

    Counted with gradients on, as its documentation calls it, whatever the caller's mode. All arguments are positional.
    """
    fvcore = required("fvcore.nn")
    with unfused(), torch.enable_grad():
        analysis = fvcore.FlopCountAnalysis(module, positional(module, args, kwargs))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        try:
            by_module = analysis.by_module()
        except IndexError as error:
            if error.__traceback__ is None or _last(error.__traceback__) != "matmul_flop_jit":
                raise
            raise RuntimeError("its rule for matmul takes a vector for a matrix") from None
        layers = {path: whole(by_module[path]) for path in leaves(module).values()}
        params = int(fvcore.parameter_count(module)[""])
        unsupported = tuple(sorted(analysis.unsupported_ops()))
        return Counted(whole(analysis.total()), layers, params, unsupported)


def _last(trail: TracebackType) -> str:
    """The function in which an exception was raised."""
    while trail.tb_next is not None:
        trail = trail.tb_next
    return trail.tb_frame.f_code.co_name


COUNTERS = (Counter("fvcore", "fvcore", count),)
