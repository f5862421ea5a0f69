"""thop's profile."""

from typing import Any

from torch import nn

from archcalc.pytorch.counters.base import Arguments, Counted, Counter, positional, required, unfused, whole


def count(module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
    """What thop calls MACs, and parameters; all arguments are positional. Fused fast paths are off."""
    thop = required("thop")
    with unfused():
        ops, params = thop.profile(module, positional(module, args, kwargs), verbose=False)
    return Counted(whole(ops), None, whole(params))


COUNTERS = (Counter("thop", "thop", count),)
