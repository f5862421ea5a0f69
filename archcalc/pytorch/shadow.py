"""Shadows: copies of modules whose parameters and buffers have shapes but no data. The module is never touched."""

import copy
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from archcalc.errors import TraceError


def shadow_of(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the module in eval mode: without data on the meta device, elsewhere with the same parameters."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in (part._parameters, part._buffers, *vars(part).values()):
            for tensor in held_tensors(value):
                if id(tensor) not in memo:
                    memo[id(tensor)] = _twin(tensor, device)
    try:
        shadow = _copied(module, memo)
    except Exception as error:
        raise TraceError(f"{type(module).__name__} cannot be copied, which tracing needs: {error}") from error
    for part in shadow.modules():
        part.__dict__.pop("_compiled_call_impl", None)  # module.compile(): what is compiled is the original
    return shadow.eval()


def held_tensors(value: Any) -> Iterator[Tensor]:
    """Tensors in a value or, some levels down, in its lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from held_tensors(item)


def _copied(part: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """What copy.deepcopy gives, several times faster for modules that leave copying to nn.Module."""
    known = memo.get(id(part))
    if known is not None:
        return known  # type: ignore[no-any-return]
    cls = type(part)
    if hasattr(cls, "__deepcopy__") or any(getattr(cls, name) is not getattr(nn.Module, name) for name in _COPYING):
        return copy.deepcopy(part, memo)
    twin = cls.__new__(cls)
    memo[id(part)] = twin
    for name, value in vars(part).items():
        if name == "_modules":
            parts = {key: None if one is None else _copied(one, memo) for key, one in value.items()}
            twin.__dict__[name] = type(value)(parts)
        elif isinstance(value, _ATOMS + _SHARED) or (
            isinstance(value, tuple) and all(isinstance(one, _ATOMS) for one in value)
        ):
            twin.__dict__[name] = value
        else:
            twin.__dict__[name] = type(value)() if isinstance(value, dict) and not value else copy.deepcopy(value, memo)
    return twin


_ATOMS = (int, float, str, type(None))
_SHARED = (ModuleType, type(threading.Lock()), type(threading.RLock()))
"""What cannot be copied, and does no harm where it is shared."""

_COPYING = ("__setstate__", "__getstate__", "__reduce_ex__", "__reduce__", "__new__")


def _twin(tensor: Tensor, device: torch.device) -> Tensor:
    if nn.parameter.is_lazy(tensor):
        raise TraceError("the module has lazy parameters; run it once before it is traced")
    if device.type != "meta" and not tensor.is_meta:
        twin = tensor.detach().clone()
        return nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    twin = torch.empty_like(tensor, device=device) if device.type == "meta" else torch.zeros_like(tensor, device=device)
    return nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
