"""Origins: what of a module's own code an operation comes from, since other counters see some calls only."""

import dis
from collections import Counter
from collections.abc import Collection
from functools import cache
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn

ATTENTION = "functional.multi_head_attention_forward"

_PASSED_THROUGH = {"torch.overrides", "torch.nn.functional", "torch.functional", "torch._jit_internal", "torch._tensor"}


def how_called(func: Any, frame: FrameType | None) -> str:
    """Whether the calling code looks a function of torch up by its name, uses an operator, or holds it since before."""
    while frame is not None and frame.f_globals.get("__name__") in _PASSED_THROUGH:
        frame = frame.f_back
    name = getattr(func, "__name__", "")
    if frame is None or frame.f_globals.get(name) is func:
        return "held"
    code = frame.f_code
    if dis.opname[code.co_code[frame.f_lasti]].startswith(("BINARY_", "INPLACE_")):
        return "operator"
    if name in code.co_names:
        return "name"
    return "operator" if getattr(Tensor, name, None) is func else "held"


@cache
def function_name(func: Any) -> str:
    """The name of torch's functions, with `functional.` or `Tensor.` in front of what is found there only."""
    name: str = getattr(func, "__name__", type(func).__name__)
    if getattr(torch.nn.functional, name, None) is func and getattr(torch, name, None) is not func:
        return f"functional.{name}"
    return f"Tensor.{name}" if getattr(torch.Tensor, name, None) is func else name


def keeper_of(frame: FrameType | None, functions: Collection[CodeType]) -> str:
    """What is running that chooses itself what backward keeps: a checkpoint, one of these functions, or nothing."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return "torch.utils.checkpoint"
        if frame.f_code in functions:
            return "torch.autograd.Function"
        frame = frame.f_back
    return ""


def autograd_functions() -> set[CodeType]:
    """What every torch.autograd.Function there is computes forward with."""
    known: list[type] = [torch.autograd.Function]
    for one in known:
        known += one.__subclasses__()
    codes = {getattr(getattr(one, "forward", None), "__code__", None) for one in known[1:]}
    return {code for code in codes if code is not None} - {torch.autograd.Function.forward.__code__}


def order_of(x: Tensor) -> tuple[int, ...]:
    """The axes of a tensor, slowest in memory first."""
    strides: tuple[int, ...] = x.stride()
    return tuple(sorted(range(x.dim()), key=lambda axis: -strides[axis]))


def ways_to(module: nn.Module) -> Counter[int]:
    """By how many ways each submodule is reached from the root, its parents' children each taken once."""
    ways: Counter[int] = Counter()
    waiting = [module]
    for part in waiting:
        ways[id(part)] += 1
        waiting += part.children()
    return ways


def parents_beside(module: nn.Module, part: nn.Module, ran: Collection[int]) -> int:
    """Of a part that several modules hold, how many of them ran (by id) beside the root.

    Where its last path leads through one that did not run, those that hold it and lie not on that path.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    last = {id(one): parts[path.rpartition(".")[0]] for path, one in parts.items() if path}
    chain = [part]
    while chain[-1] is not module:
        chain.append(last[id(chain[-1])])
    if all(id(one) in ran for one in chain):
        holding = [one for one in module.modules() if id(one) in ran and part in one.children()]
        return len(holding) - (module in holding) if len(holding) > 1 else 0
    around = [one for one in module.modules() if id(one) in ran and one not in chain and part in one.modules()]
    return sum(not any(other is not one and other in one.modules() for other in around) for one in around)


def classes_of(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """The classes of the modules that each path leads through."""
    classes: dict[str, tuple[str, ...]] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        outer = classes[path.rpartition(".")[0]] if path else ()
        classes[path] = (*outer, _named(type(part)))
    return classes


def base_of(module: nn.Module) -> str:
    """The nearest class of torch.nn that a module's class is or derives from."""
    return next(name for name in map(_named, type(module).__mro__) if name.startswith("torch.nn."))


def _named(cls: type) -> str:
    home = "torch.nn" if cls.__module__.startswith("torch.nn.modules.") else cls.__module__
    return f"{home}.{cls.__qualname__}"
