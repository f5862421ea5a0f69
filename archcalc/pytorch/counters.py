"""Other people's counters behind one signature, each leaving the module as it was.

What each adds to the multiply-adds is written in ``docs/`` and held by ``tests/test_counters.py``.
"""

import importlib
import importlib.metadata
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archcalc.errors import ArchcalcError, CheckError, MissingPackageError


@dataclass(frozen=True)
class Counted:
    """What one tool says of one forward pass in eval mode, on the scale of MACs."""

    tool: str
    version: str
    total: int
    layers: dict[str, int] | None  # leaf modules only, so what a parent computes itself is in the total alone
    params: int | None
    unsupported: tuple[str, ...] = ()  # operations the tool says it has no rule for, and so counts as zero


Counter = Callable[[nn.Module, tuple[Tensor, ...]], Counted]


def count_torch(module: nn.Module, inputs: tuple[Tensor, ...]) -> Counted:
    """FlopCounterMode's FLOPs divided by 2; CheckError where that is not exact.

    Fused kernels that it has no formula for (the encoder's and LSTM's fast paths) are switched off meanwhile.
    """
    with _counting("FlopCounterMode", module, inputs) as copies, _unfused(module), torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            module(*copies)
        flops = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
        total = _half(counter.get_total_flops(), "in total")
        root, paths = type(module).__name__, _canonical_paths(module)
        layers = dict.fromkeys(_leaves(module).values(), 0)
        for alias, path in paths.items():
            name = f"{root}.{alias}" if alias else root
            if path in layers and name in flops:
                layers[path] += _half(flops[name], f"in {name}")
    return Counted("torch", str(torch.__version__), total, layers, None)


def count_fvcore(module: nn.Module, inputs: tuple[Tensor, ...]) -> Counted:
    """What fvcore calls flops: one per multiply-add, and what it adds for normalisation, pooling and upsampling.

    Counted with gradients on, as its documentation calls it, whatever the caller's mode.
    """
    fvcore = _required("fvcore.nn")
    with _counting("fvcore", module, inputs) as copies, torch.enable_grad():
        analysis = fvcore.FlopCountAnalysis(module, copies)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        by_module = analysis.by_module()
        layers = {path: _whole(by_module[path]) for path in _leaves(module).values()}
        params = int(fvcore.parameter_count(module)[""])
        unsupported = tuple(sorted(analysis.unsupported_ops()))
        total = _whole(analysis.total())
    return Counted("fvcore", _version("fvcore"), total, layers, params, unsupported)


def count_torchinfo(module: nn.Module, inputs: tuple[Tensor, ...]) -> Counted:
    """What torchinfo calls mult-adds: those of leaf modules, so functional calls are not among them.

    It lists a module once for each call; calls after the first are "recursive": their mult-adds are added to the total
    all the same, their parameters are not.
    """
    torchinfo = _required("torchinfo")
    with _counting("torchinfo", module, inputs) as copies:
        try:
            summary = torchinfo.summary(module, input_data=list(copies), mode="eval", verbose=0)
        finally:
            torchinfo.torchinfo.clear_cached_forward_pass()  # a global that would keep the module alive
        leaves = _leaves(module)
        layers = dict.fromkeys(leaves.values(), 0)
        for call in summary.summary_list:
            if call.is_leaf_layer:
                layers[leaves[call.layer_id]] += call.macs
    return Counted("torchinfo", _version("torchinfo"), int(summary.total_mult_adds), layers, int(summary.total_params))


COUNTERS: Mapping[str, Counter] = {"torch": count_torch, "fvcore": count_fvcore, "torchinfo": count_torchinfo}


@contextmanager
def untouched(module: nn.Module, inputs: Sequence[Tensor] = ()) -> Iterator[None]:
    """Put the module back as it was: modes, hooks, attributes, buffers, gradients; and the random number generators."""
    modules = list(module.modules())
    tensors = [*module.parameters(), *module.buffers()]
    modes = [(one, one.training) for one in modules]
    attributes = [(one, _shallow(vars(one))) for one in modules]
    gradients = [(p, p.requires_grad, p.grad) for p in module.parameters()]
    held = [*module.buffers(), *(grad for _, _, grad in gradients if grad is not None)]
    values = [(tensor, tensor.detach().clone()) for tensor in held]
    with _generators_kept([*tensors, *inputs]):
        try:
            yield
        finally:
            for one, training in modes:
                one.training = training
            for one, saved in attributes:
                _restore(vars(one), saved)
            for parameter, requires_grad, grad in gradients:
                if parameter.requires_grad != requires_grad:
                    parameter.requires_grad_(requires_grad)
                if parameter.grad is not grad:
                    parameter.grad = grad
            for tensor, value in values:
                if not tensor.is_meta and not torch.equal(tensor, value):
                    with torch.no_grad():
                        tensor.copy_(value)


@contextmanager
def _counting(tool: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    with untouched(module, inputs), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.eval()
        try:
            yield tuple(tensor.detach().clone() for tensor in inputs)
        except ArchcalcError:
            raise
        except Exception as error:
            cause = error.__cause__ or error
            reason = (str(cause).splitlines() or [""])[0]
            message = f"{tool} could not count {type(module).__name__}: {type(cause).__name__}: {reason}"
            raise CheckError(message) from error


@contextmanager
def _unfused(module: nn.Module) -> Iterator[None]:
    recurrent = any(isinstance(one, nn.RNNBase) for one in module.modules())
    backends: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn) if recurrent else ()
    enabled = [backend.enabled for backend in backends]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for backend in backends:
            backend.enabled = False
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for backend, was in zip(backends, enabled, strict=True):
            backend.enabled = was


@contextmanager
def _generators_kept(tensors: Sequence[Tensor]) -> Iterator[None]:
    devices = {tensor.device for tensor in tensors if tensor.device.type not in {"cpu", "meta"}}
    kinds = {device.type for device in devices}
    indices = sorted(device.index or 0 for device in devices)
    with torch.random.fork_rng(devices=indices, device_type=kinds.pop() if kinds else None):
        yield


def _shallow(attributes: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (value, value.copy() if isinstance(value, dict | set) else None) for name, value in attributes.items()
    }


def _restore(attributes: dict[str, Any], saved: Mapping[str, tuple[Any, Any]]) -> None:
    attributes.clear()
    for name, (value, content) in saved.items():
        if content is not None:
            value.clear()
            value.update(content)
        attributes[name] = value


def _leaves(module: nn.Module) -> dict[int, str]:
    return {id(one): path for path, one in module.named_modules() if not any(True for _ in one.children())}


def _canonical_paths(module: nn.Module) -> dict[str, str]:
    first = {id(one): path for path, one in module.named_modules()}
    return {alias: first[id(one)] for alias, one in module.named_modules(remove_duplicate=False)}


def _half(flops: int, where: str) -> int:
    if flops % 2:
        raise CheckError(f"FlopCounterMode counts {flops} FLOPs {where}: odd, so not twice a number of MACs")
    return flops // 2


def _whole(count: float) -> int:
    if count != int(count):
        raise CheckError(f"fvcore counts {count}: not a whole number")
    return int(count)


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _required(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            package = name.partition(".")[0]
            raise MissingPackageError(f'{package} is not installed: pip install "archcalc[torch]"') from None
