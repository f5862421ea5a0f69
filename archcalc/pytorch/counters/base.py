"""What a counter is, and how it is run: on a copy of the module, silently; in its own process if it patches torch."""

import contextlib
import copy
import importlib
import importlib.metadata
import inspect
import io
import warnings
from collections import Counter as Bag
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from archcalc.errors import ArchcalcError, CheckError, MissingPackageError
from archcalc.pytorch.untouched import untouched

Arguments: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Counted:
    """What one tool says of one forward pass in eval mode, on the scale of MACs."""

    total: int
    layers: dict[str, int] | None = None  # leaf modules only, so what a parent computes itself is in the total alone
    params: int | None = None
    unsupported: tuple[str, ...] = ()  # operations the tool says it has no rule for, and so counts as zero
    changed: tuple[str, ...] = ()  # what the tool leaves behind in the module
    tool: str = ""
    version: str = ""


@dataclass(frozen=True)
class Counter:
    """A tool that counts: what is called on a module in eval mode, and the package it needs."""

    name: str
    package: str
    run: Callable[[nn.Module, Arguments, dict[str, Any]], Counted]
    patches: bool = False  # it changes torch itself, and so runs in a process of its own
    needs: tuple[str, ...] = field(default=())  # further packages it cannot do without

    @property
    def version(self) -> str | None:
        """The version that is installed; None where it or what it needs is not."""
        return None if any(map(_absent, self.needs)) else _version(self.package)

    def __call__(self, module: nn.Module, args: Arguments, kwargs: Mapping[str, Any] | None = None) -> Counted:
        """What the tool counts on a copy of the module. Raises MissingPackageError, and CheckError where it fails."""
        if self.version is None:
            raise _missing(next(filter(_absent, (self.package, *self.needs))))
        if self.patches:
            from archcalc.pytorch.counters.worker import ask

            return ask(self.name, module, args, dict(kwargs or {}))
        return self.here(module, args, dict(kwargs or {}))

    def here(self, module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
        """What the tool counts, in this process. Raises CheckError."""
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        with untouched(module, tensors), _silence():
            try:
                twin = _copy(module).eval()
                before = _state(twin)
                counted = self.run(twin, copy.deepcopy(args), copy.deepcopy(kwargs))
            except ArchcalcError:
                raise
            except Exception as error:
                cause = error.__cause__ or error
                reason = (str(cause).splitlines() or [""])[0]
                said = f"{type(cause).__name__}: {reason}" if reason else f"{type(cause).__name__} without a word"
                message = f"{self.name} could not count {type(module).__name__}: {said}"
                raise CheckError(message) from error
            changed = tuple(_changes(before, _state(twin)))
        return replace(counted, changed=changed, tool=self.name, version=self.version or "")


def leaves(module: nn.Module) -> dict[int, str]:
    """Paths of the modules that are one layer, by identity: those without submodules, and attention as a whole."""
    found = {}
    inside: tuple[str, ...] = ()
    for path, one in module.named_modules():
        if path.startswith(inside):
            continue
        if isinstance(one, nn.MultiheadAttention):
            inside = (*inside, f"{path}." if path else "")
            found[id(one)] = path
        elif not any(True for _ in one.children()):
            found[id(one)] = path
    return found


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Run attention and encoder layers module by module: in one fused operation no counter sees anything."""
    mha = torch.backends.mha
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)


def positional(module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Arguments:
    """All arguments by position, for tools that pass none by name. Raises CheckError where one has no position."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    if bound.kwargs:
        raise CheckError(f"it passes arguments by position, and {', '.join(bound.kwargs)} can be given by name only")
    return bound.args


def _copy(module: nn.Module) -> nn.Module:
    """A copy; what hooks computed from parameters, as weight_norm does, is taken as it is, which deepcopy refuses."""
    held = (value for part in module.modules() for value in vars(part).values())
    computed = {id(one): one.detach() for one in held if isinstance(one, Tensor) and not one.is_leaf}
    return copy.deepcopy(module, dict(computed))


def whole(count: float) -> int:
    """A count that must be a whole number. Raises CheckError."""
    if count != int(count):
        raise CheckError(f"a count of {count} is not a whole number")
    return int(count)


def required(name: str) -> ModuleType:
    """A module of the tool's package. Raises MissingPackageError."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise _missing(name.partition(".")[0]) from None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _absent(package: str) -> bool:
    return _version(package) is None


def _missing(package: str) -> MissingPackageError:
    return MissingPackageError(f'{package} is not installed: pip install "archcalc[counters]"')


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def _state(module: nn.Module) -> dict[str, dict[str, Any]]:
    """What each submodule holds, by path: attributes, hooks, buffers and parameters by name, and its mode."""
    state = {}
    for path, part in module.named_modules():
        named: dict[str, Any] = {
            f"hook in {key}": len(value) for key, value in vars(part).items() if key.endswith("_hooks") and value
        }
        named |= {f"buffer {key}": None for key in part._buffers}
        named |= {
            f"parameter {key}": one if one is None else one.requires_grad for key, one in part._parameters.items()
        }
        named |= {f"attribute {key}": None for key in vars(part) if not key.startswith("_") and key != "training"}
        named["mode"] = part.training
        state[path] = named
    return state


def _changes(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What a tool leaves behind, in words, with the number of modules it is found in."""
    found: Bag[str] = Bag()
    for path in before | after:
        old, new = before.get(path, {}), after.get(path, {})
        found.update(name for name in old | new if old.get(name, "none") != new.get(name, "none"))
    for name, times in found.items():
        yield f"{name} in {times} module{'s' * (times > 1)}"
