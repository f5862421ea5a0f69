"""Load: the module that a target such as `torch:torchvision.models:resnet34` names."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from archcalc.errors import InputError
from archcalc.names import unknown
from archcalc.pytorch.shadow import shadow_of
from archcalc.targets import Argument

Factory = Callable[[], nn.Module]
Inputs: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""


def load(target: str, settings: Mapping[str, str]) -> tuple[str, Factory]:
    """The name and a maker of the module that `package.module:callable` gives, called with the settings.

    Settings are Python literals, or text where they are none. Raises InputError, UnknownNameError.

    >>> name, make = load("torch.nn:Linear", {"in_features": "3", "out_features": "2"})
    >>> name, make()
    ('linear', Linear(in_features=3, out_features=2, bias=True))
    """
    path, colon, attribute = target.partition(":")
    if not colon or not path or not attribute:
        raise InputError(
            f"torch:{target}: write torch:package.module:callable, such as torch:torchvision.models:resnet34"
        )
    if path.endswith(".py"):
        named = path.removesuffix(".py").replace("/", ".").lstrip(".")
        raise InputError(f"torch:{target}: a module is named as Python imports it: torch:{named}:{attribute}")
    made = _attribute(_module(path), path, attribute)
    values = {key: _literal(text) for key, text in settings.items()}
    if isinstance(made, nn.Module):
        if values:
            raise InputError(f"torch:{target} is a module already; --set is for classes and functions")
        return attribute, lambda: made
    if not callable(made):
        raise InputError(f"torch:{target} is {type(made).__name__}, neither a module nor something that makes one")

    def make() -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module = made(**values)
            except TypeError as error:
                raise InputError(f"torch:{target}{_parameters(made)} cannot be called: {error}") from error
            except (Exception, SystemExit) as error:
                reason = str(error).strip().partition("\n")[0]
                raise InputError(f"torch:{target} raised {type(error).__name__}: {reason}") from error
        if not isinstance(module, nn.Module):
            raise InputError(f"torch:{target} makes {type(module).__name__}, not an nn.Module")
        return module

    return attribute.lower(), make


def to_trace(arguments: Sequence[Argument]) -> Inputs:
    """What `trace` takes for these arguments: shapes where the type is the module's own, else tensors of zeros."""
    values = [
        one.shape if one.dtype is None else torch.zeros(one.shape, dtype=getattr(torch, one.dtype)) for one in arguments
    ]
    return _inputs(arguments, values)


def to_run(
    arguments: Sequence[Argument], device: torch.device, dtype: torch.dtype, *, channels_last: bool = False
) -> Inputs:
    """Tensors to call the module with: floats between -1 and 1, in this type unless they have one, and zeros."""
    generator = torch.Generator().manual_seed(0)
    values = []
    for one in arguments:
        kind = dtype if one.dtype is None else getattr(torch, one.dtype)
        value = torch.zeros(one.shape)
        if kind.is_floating_point:
            value.uniform_(-1, 1, generator=generator)
        value = value.to(device, kind)
        values.append(value.to(memory_format=torch.channels_last) if channels_last and value.ndim == 4 else value)
    return _inputs(arguments, values)


def _inputs(arguments: Sequence[Argument], values: Sequence[Any]) -> Inputs:
    pairs = list(zip(arguments, values, strict=True))
    positional = tuple(value for argument, value in pairs if argument.keyword is None)
    return positional, {argument.keyword: value for argument, value in pairs if argument.keyword is not None}


def own_dtype(module: nn.Module) -> torch.dtype:
    """The type of the module's first floating parameter, by default torch's own."""
    kinds = (one.dtype for one in module.parameters() if one.is_floating_point())
    return next(kinds, torch.get_default_dtype())


def in_type(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module, changed: tensors of its own type are of this one; the rest is as it was."""
    own = own_dtype(module)
    module._apply(lambda x: x.to(dtype) if x.dtype == own else x)  # type: ignore[no-untyped-call]
    return module


def copy_of_type(module: nn.Module, dtype: str) -> nn.Module:
    """The module in the type of this name; a copy, where it has another."""
    kind = getattr(torch, dtype)
    if own_dtype(module) == kind:
        return module
    device = next((one.device for one in module.parameters()), torch.device("cpu"))
    return in_type(shadow_of(module, device), kind)


def without_data(make: Factory) -> nn.Module:
    """The module with shapes only, on the meta device; with data where it cannot be made so."""
    for mode in (torch.device("meta"), _EmptyOnMeta()):
        try:
            with mode:
                return make()
        except (RuntimeError, InputError):
            continue
    return make()


class _EmptyOnMeta(TorchFunctionMode):
    """Gives parameters no data, but leaves numbers that a constructor computes with alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def _module(path: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(path)
    except (Exception, SystemExit) as error:
        raise InputError(f"cannot import {path}: {type(error).__name__}: {error}") from error


def _attribute(module: Any, path: str, name: str) -> Any:
    value = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise unknown(f"name in {path}", part, [known for known in dir(value) if not known.startswith("_")])
        value = getattr(value, part)
    return value


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _parameters(made: Callable[..., Any]) -> str:
    try:
        return str(signature(made))
    except (TypeError, ValueError):
        return ""
