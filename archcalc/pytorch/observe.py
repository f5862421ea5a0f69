"""Observe: which leaf modules a forward pass calls, what they put out, and which rows of a report describe them."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from archcalc import units
from archcalc.analysis import Row
from archcalc.errors import ArchcalcError, CheckError
from archcalc.layers import Input
from archcalc.layers.operation import Constant, Parameter, Unused
from archcalc.nest import Role
from archcalc.pytorch.build import BuiltNetwork
from archcalc.pytorch.counters.base import leaves as leaf_paths
from archcalc.pytorch.devices import is_out_of_memory, memory_guard
from archcalc.pytorch.untouched import untouched

Dims: TypeAlias = tuple[int, ...]
Tensors: TypeAlias = tuple[tuple[str, Dims], ...]
"""Names and shapes, sorted by name."""


@dataclass(frozen=True)
class Call:
    """One call of a leaf module: its path and the shape of its output, the first one of several."""

    path: str
    module: nn.Module
    output: Dims | None

    @property
    def kind(self) -> str:
        """The module's class."""
        return type(self.module).__name__


def observe(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[list[Call], tuple[Dims, ...]]:
    """Calls of leaf modules in the order they end, and the shapes of all outputs, in eval mode. Raises CheckError."""
    calls: list[Call] = []
    running: list[tuple[str, nn.Module, object]] = []

    def start(path: str, part: nn.Module, args: object, kwargs: object) -> None:
        running.append((path, part, (args, kwargs)))

    def stop(path: str, part: nn.Module, args: object, kwargs: object, output: object) -> None:
        while running.pop()[1] is not part:  # those in between raised what somebody caught
            pass
        if path in leaves:
            calls.append(Call(path, part, next(iter(shapes(output)), None)))

    parts = dict(module.named_modules())
    leaves = set(leaf_paths(module).values())
    if isinstance(module, BuiltNetwork):
        leaves.discard("")  # a network without layers has no leaves
    handles = []
    with untouched(module, [*tensors((args, kwargs))]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.eval()
        args, kwargs = tree_map(lambda one: one.clone() if isinstance(one, Tensor) else one, (args, kwargs))
        try:
            for path, one in parts.items():
                handles.append(one.register_forward_pre_hook(partial(start, path), with_kwargs=True))
                handles.append(one.register_forward_hook(partial(stop, path), with_kwargs=True))
            output = module(*args, **kwargs)
        except ArchcalcError:
            raise
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error):
                raise
            path, part, given = running[-1] if running else ("", module, (args, kwargs))
            raise CheckError(_failure(path, part, given, error)) from error
        finally:
            for handle in handles:
                handle.remove()
    return calls, shapes(output)


def _failure(path: str, part: nn.Module, given: object, error: BaseException) -> str:
    where = f"{path} ({type(part).__name__})" if path else type(part).__name__
    received = " and ".join(units.shape(shape) for shape in shapes(given)) or "no tensor"
    reason = " ".join(str(error).split()) or "no reason given"
    return f"{where} received {received} and failed with {type(error).__name__}: {reason}"


def shapes(value: object) -> tuple[Dims, ...]:
    """Shapes of the tensors in a value; one that is there twice, or detached beside itself, is one."""
    found: dict[object, Dims] = {}
    for tensor in tensors(value):
        shape = tuple(tensor.shape)
        known = tensor.numel() and not tensor.is_meta and tensor.layout is torch.strided
        found[(tensor.data_ptr(), shape, tensor.stride()) if known else id(tensor)] = shape
    return tuple(found.values())


def tensors(value: object) -> Iterator[Tensor]:
    """Tensors in a value, and in its lists, tuples, dictionaries and dataclasses, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(tensors, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(tensors, value))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from chain.from_iterable(tensors(getattr(value, one.name)) for one in fields(value))


def home(row: Row, module: nn.Module) -> tuple[str, bool]:
    """Path of the innermost submodule that computes a row, and whether the row is that submodule's own call."""
    node = row.node
    label = node.name.partition(":")[0]
    if node.origin is None:
        return label, True
    root = label == type(module).__name__.lower() and len(node.origin.modules) == 1
    if node.origin.functions or isinstance(node.layer, Input | Parameter | Constant | Unused):
        return ".".join(node.blocks), False
    return ("", True) if root else (label, True)


def align(rows: Sequence[Row], calls: Sequence[Call]) -> list[tuple[Row | None, Call | None]]:
    """Rows beside the calls of the same kind, both in order: as many as can be, then as many alike as can be."""
    described = [_Traits(row.kind, row.output, tuple(row_tensors(row, role) for role in ROLES)) for row in rows]
    seen = [_Traits(one.kind, one.output, tuple(module_tensors(one.module, role) for role in ROLES)) for one in calls]
    shorter = min(len(rows), len(calls))
    same = [a == b for a, b in zip(described, seen, strict=False)]
    start = same.index(False) if False in same else shorter
    pairs = [(i, i) for i in range(start)]
    pairs += [(start + i, start + j) for i, j in _best(described[start:], seen[start:])]
    result: list[tuple[Row | None, Call | None]] = []
    i = j = 0
    for row, call in [*pairs, (len(rows), len(calls))]:
        result += [(one, None) for one in rows[i:row]]
        result += [(None, one) for one in calls[j:call]]
        result += [(a, b) for a, b in zip(rows[row : row + 1], calls[call : call + 1], strict=True)]
        i, j = row + 1, call + 1
    return result


class _Traits(NamedTuple):
    kind: str
    output: Dims | None
    tensors: tuple[Tensors, ...]


def _best(rows: Sequence[_Traits], calls: Sequence[_Traits]) -> Iterator[tuple[int, int]]:
    """Pairs of the best alignment (Needleman & Wunsch 1970), by tables of the best scores of what remains."""
    many = 2 * (min(len(rows), len(calls)) + 1)  # one more pair outweighs any likeness
    scores = [[0] * (len(calls) + 1) for _ in range(len(rows) + 1)]
    for i in reversed(range(len(rows))):
        here, below, row = scores[i], scores[i + 1], rows[i]
        for j in reversed(range(len(calls))):
            call = calls[j]
            best = max(below[j], here[j + 1])
            if row.kind == call.kind:
                best = max(best, below[j + 1] + many + (row.output == call.output) + (row.tensors == call.tensors))
            here[j] = best
    i = j = 0
    while i < len(rows) and j < len(calls):
        if scores[i][j] == scores[i + 1][j]:
            i += 1
        elif scores[i][j] == scores[i][j + 1]:
            j += 1
        else:
            yield i, j
            i, j = i + 1, j + 1


ROLES = ("weight", "bias", "buffer")


def row_tensors(row: Row, role: str) -> Tensors:
    """Parameters or buffers that a row says its layer has."""
    return tuple(sorted((one.name, nest.shape(one)) for nest in row.nests for one in nest.operands if one.role == role))


def module_tensors(module: nn.Module, role: str) -> Tensors:
    """Parameters or buffers that a leaf module has; a parameter called bias is one, all others are weights."""
    named = module.named_buffers() if role == "buffer" else module.named_parameters()
    return tuple(sorted((name, tuple(tensor.shape)) for name, tensor in named if role in ("buffer", role_of(name))))


def role_of(name: str) -> Role:
    """Whether a parameter of this name is a weight or a bias."""
    return "bias" if "bias" in name.rpartition(".")[2].split("_") else "weight"


def materialize(module: nn.Module, device: torch.device) -> nn.Module:
    """Give a module on the meta device memory on this one, and small numbers; global generators are untouched."""
    with memory_guard(device), torch.no_grad():
        module.to_empty(device=device)
        noise = random((1 << 20,), device)
        for parameter in module.parameters():
            bound = 1.0 if parameter.ndim < 2 else (parameter.numel() / len(parameter)) ** -0.5
            for part in torch.split(parameter.view(-1), len(noise)):  # the same again: 10^8 new ones take seconds
                torch.mul(noise[: len(part)], bound, out=part)
        for buffer in module.buffers():
            buffer.zero_()
        for one in module.modules():
            if isinstance(one, nn.modules.batchnorm._NormBase):
                one.reset_running_stats()
    return module


def random(shape: Sequence[int], device: torch.device) -> Tensor:
    """Numbers between -1 and 1, the same each time on one device."""
    return torch.empty(tuple(shape), device=device).uniform_(-1, 1, generator=torch.Generator(device).manual_seed(0))
