"""Trace: run any nn.Module once and write down every operation as a network.

The module runs as a shadow: a copy whose parameters and buffers have shapes but no data (torch's meta device), so
that nothing is allocated and the user's module is never touched. Modules that are layers become one node each; what
else runs is recorded operation by operation.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from archcalc.errors import ArchcalcError, TraceError
from archcalc.graph import Network
from archcalc.pytorch.devices import generators_kept
from archcalc.pytorch.known import Known, Literals
from archcalc.pytorch.load import own_dtype
from archcalc.pytorch.recorder import Functions, Recorder, hook
from archcalc.pytorch.shadow import shadow_of

META = torch.device("meta")


def trace(module: nn.Module, inputs: Any, /, *, name: str | None = None, **kwargs: Any) -> Network:
    """The network that a module is on inputs of these shapes: every layer and operation that runs, in order.

    `inputs` is a shape, a tensor, or a sequence of positional arguments in which shapes and tensors may stand
    anywhere; keyword arguments go to the module. Raises TraceError that names the module in which it failed.

    >>> net = trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (1, 3, 8, 8))
    >>> [node.layer.kind for node in net]
    ['Input', 'Conv2d', 'ReLU']
    """
    if not isinstance(module, nn.Module):
        raise TraceError(f"trace takes an nn.Module, not {type(module).__name__}")
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise TraceError(f"{type(module).__name__} holds a ScriptModule, whose inside cannot be traced")
    arguments = _arguments(inputs)
    name = type(module).__name__.lower() if name is None else name
    try:
        return _run(module, arguments, kwargs, name, META)
    except TraceError as error:
        if not _needs_data(error.__cause__):
            raise
        reason = re.split(r"\n|\. ", str(error.__cause__))[0]  # the first sentence
    with suppress(TraceError):
        return _run(module, arguments, kwargs, name, META, knowing=True)
    warnings.warn(f"{name} cannot run without data ({reason}); traced with real tensors", stacklevel=2)
    return _run(module, arguments, kwargs, name, _device_of(module))


def _run(
    module: nn.Module,
    arguments: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
    device: torch.device,
    knowing: bool = False,
) -> Network:
    """The network on a device; knowing, what follows from sizes and given inputs has values, and is made there too."""
    shadow = shadow_of(module, device)
    dtype = own_dtype(module)
    recorder = Recorder(shadow, name, dtype)
    asked = arguments, kwargs
    with _slow_paths(device), generators_kept(device):
        placed = tree_map(lambda value: _placed(value, device, dtype), asked, is_leaf=_is_shape)
    arguments, kwargs = placed
    recorder.enter(arguments, kwargs)
    with ExitStack() as stack:
        stack.enter_context(_slow_paths(device))
        stack.enter_context(generators_kept(device))
        stack.enter_context(torch.no_grad())
        hook(shadow, recorder)
        modes: list[Any] = [recorder, Functions(recorder)]
        if knowing:
            pairs = zip(*(tree_flatten(one, is_leaf=_is_shape)[0] for one in (placed, asked)), strict=True)
            known = Known((x, one) for x, one in pairs if isinstance(one, Tensor) and not one.is_meta)
            modes = [device, Literals(known), *modes, known]
        for mode in modes:
            stack.enter_context(mode)
        try:
            result = shadow(*arguments, **kwargs)
        except ArchcalcError:
            raise
        except (Exception, SystemExit) as error:
            raise TraceError(recorder.failure(error)) from error
    return recorder.network(result)


_SWITCHES = threading.RLock()
"""Held while torch's switches, which all threads share, are not as the user left them."""


@contextmanager
def _slow_paths(device: torch.device) -> Iterator[None]:
    """Run attention operation by operation where a fused path would hide them."""
    if device.type == "meta":
        yield
        return
    from torch.backends import mha
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with _SWITCHES:
        before = mha.get_fastpath_enabled()
        mha.set_fastpath_enabled(False)
        try:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            mha.set_fastpath_enabled(before)


def _arguments(inputs: Any) -> tuple[Any, ...]:
    return (inputs,) if _is_shape(inputs) or not isinstance(inputs, tuple | list) else tuple(inputs)


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple | list | torch.Size) and len(value) > 0 and all(type(dim) is int for dim in value)


def _placed(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A shape, in this dtype, or a tensor as a tensor on the device; anything else as it is."""
    if _is_shape(value):
        return (
            torch.rand(tuple(value), device=device, dtype=dtype)
            if device.type != "meta"
            else torch.empty(tuple(value), device=device, dtype=dtype)
        )
    if isinstance(value, Tensor):
        return torch.empty_like(value, device=device) if device.type == "meta" else value.detach().clone().to(device)
    return value


def _needs_data(error: BaseException | None) -> bool:
    """Whether a run failed since meta tensors hold no data."""
    if isinstance(error, NotImplementedError):
        return True
    return re.search(r"\b[Mm]eta\b|data-dependent|aten::_local_scalar_dense", str(error)) is not None


def _device_of(module: nn.Module) -> torch.device:
    first = next(module.parameters(), None)
    return torch.device("cpu") if first is None or first.device.type == "meta" else first.device
