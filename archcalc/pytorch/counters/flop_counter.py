"""PyTorch's FlopCounterMode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from archcalc.errors import CheckError
from archcalc.pytorch.counters.base import Arguments, Counted, Counter, leaves, unfused


def count(module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
    """FlopCounterMode's FLOPs divided by 2; CheckError where that is not exact.

    Fused kernels that it has no formula for (the encoder's and LSTM's fast paths) are switched off meanwhile.
    """
    with _unfused(module), torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            module(*args, **kwargs)
        flops = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
        total = _half(counter.get_total_flops(), "in total")
        root, paths = type(module).__name__, _canonical_paths(module)
        layers = dict.fromkeys(leaves(module).values(), 0)
        for alias, path in paths.items():
            name = f"{root}.{alias}" if alias else root
            if path in layers and name in flops:
                layers[path] += _half(flops[name], f"in {name}")
    return Counted(total, layers)


@contextmanager
def _unfused(module: nn.Module) -> Iterator[None]:
    recurrent = any(isinstance(one, nn.RNNBase) for one in module.modules())
    backends: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn) if recurrent else ()
    enabled = [backend.enabled for backend in backends]
    try:
        for backend in backends:
            backend.enabled = False
        with unfused():
            yield
    finally:
        for backend, was in zip(backends, enabled, strict=True):
            backend.enabled = was


def _canonical_paths(module: nn.Module) -> dict[str, str]:
    first = {id(one): path for path, one in module.named_modules()}
    return {alias: first[id(one)] for alias, one in module.named_modules(remove_duplicate=False)}


def _half(flops: int, where: str) -> int:
    if flops % 2:
        raise CheckError(f"FlopCounterMode counts {flops} FLOPs {where}: odd, so not twice a number of MACs")
    return flops // 2


COUNTERS = (Counter("torch", "torch", count),)
