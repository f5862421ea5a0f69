"""Shadows: copies of modules whose parameters and buffers have shapes but no data. The module is never touched."""

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation, conv

from archcalc.errors import TraceError


def shadow_of(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the module in eval mode: without data on the meta device, elsewhere with the same parameters."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        holders = [value for value in vars(part).values() if isinstance(value, _HOLDERS)]
        for tensor in held_tensors(holders):
            if id(tensor) not in memo:
                memo[id(tensor)] = _twin(tensor, device)
    try:
        shadow = _copied(module, memo)
    except Exception as error:
        raise TraceError(f"{type(module).__name__} cannot be copied, which tracing needs: {error}") from error
    for part in shadow.modules():
        part.__dict__.pop("_compiled_call_impl", None)  # module.compile(): what is compiled is the original
        if isinstance(part, nn.DataParallel):
            part.device_ids = []  # one copy, where the shadow is
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
    if hasattr(cls, "__deepcopy__") or not all(getattr(cls, name) in known for name, known in _COPYING.items()):
        return copy.deepcopy(part, memo)
    twin = cls.__new__(cls)
    memo[id(part)] = twin
    for name, value in vars(part).items():
        if name == "_modules":
            parts = {key: None if one is None else _copied(one, memo) for key, one in value.items()}
            twin.__dict__[name] = type(value)(parts)
        elif isinstance(value, _ATOMS + _SHARED) or (isinstance(value, tuple) and _atoms(value)):
            twin.__dict__[name] = value
        else:
            twin.__dict__[name] = _held(value, memo)
    return twin


def _held(value: Any, memo: dict[int, Any]) -> Any:
    """A copy, made at once of what is empty, of lists of numbers and names, of tensors by name that have twins."""
    if id(value) in memo:
        return memo[id(value)]
    if type(value) in (dict, set, OrderedDict) and not value:
        copied = type(value)()
    elif type(value) is list and _atoms(value):
        copied = list(value)
    elif type(value) is dict and all(one is None or id(one) in memo for one in value.values()):
        copied = {key: None if one is None else memo[id(one)] for key, one in value.items()}
    else:
        return copy.deepcopy(value, memo)
    memo[id(value)] = copied
    return copied


def _atoms(values: Iterable[Any]) -> bool:
    return all(isinstance(one, _ATOMS) for one in values)


_HOLDERS = (Tensor, dict, list, tuple)
_ATOMS = (int, float, str, type(None))
_SHARED = (ModuleType, type(threading.Lock()), type(threading.RLock()))
"""What cannot be copied, and does no harm where it is shared."""

_OLDER = (conv._ConvNd.__setstate__, activation.MultiheadAttention.__setstate__)
"""Which only add what modules of older versions lack."""

_COPYING = {
    name: (getattr(nn.Module, name), *(_OLDER if name == "__setstate__" else ()))
    for name in ("__setstate__", "__getstate__", "__reduce_ex__", "__reduce__", "__new__")
}
"""Methods that copying calls, and those of them that can be left out."""


def _twin(tensor: Tensor, device: torch.device) -> Tensor:
    if nn.parameter.is_lazy(tensor):
        raise TraceError("the module has lazy parameters; run it once before it is traced")
    if device.type != "meta" and not tensor.is_meta:
        twin = tensor.detach().clone()
        return nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    if device.type != "meta":
        twin = torch.zeros_like(tensor, device=device)
    elif type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided and not tensor.is_quantized:
        twin = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    else:
        twin = torch.empty_like(tensor, device=device)
    return nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
