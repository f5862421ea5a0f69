"""Known values: numbers that a run without data knows, since they follow from sizes and given inputs, as masks do."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from archcalc.pytorch.shadow import held_tensors


class UnknownValueError(RuntimeError):
    """A number is asked for that depends on parameters, on chance, or on what was overwritten."""


class Known(TorchDispatchMode):
    """Answers `.item()` and the like on tensors without data, where their numbers can be computed.

    It remembers by which operation each tensor was made, and runs those again with data when a number is asked for.

    >>> x = torch.empty(2, 3, device="meta")
    >>> with Known([]):
    ...     bool(torch.ones_like(x).all())
    True
    """

    def __init__(self, given: Iterable[tuple[Tensor, Tensor]]):
        """With the values of tensors that have no data themselves."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.given: dict[int, tuple[Tensor, Tensor, int]] = {}
        for x, value in given:
            self.give(x, value)
        self.made: dict[int, tuple[Tensor, int, Any, Any, Any, tuple[int, ...]]] = {}

    def give(self, x: Tensor, value: Tensor) -> None:
        """Tell the value that a tensor without data has now."""
        self.given[id(x)] = (x, value, x._version)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.data_dependent_output in func.tags and any(x.is_meta for x in held_tensors(args)):
            with _disable_current_modes():
                return func(*tree_map_only(Tensor, self.value, args), **kwargs)
        result = func(*args, **kwargs)
        inputs = tuple(held_tensors((args, kwargs)))
        if isinstance(result, Tensor) and _is_certain(func) and not any(result is x for x in inputs):
            versions = tuple(x._version for x in inputs)
            self.made[id(result)] = (result, result._version, func, args, kwargs, versions)
        return result

    def value(self, x: Tensor) -> Tensor:
        """A tensor with its numbers. Raises UnknownValueError."""
        if not x.is_meta:
            return x
        if id(x) not in self.given and id(x) in self.made:
            _, version, func, args, kwargs, versions = self.made[id(x)]
            if tuple(one._version for one in held_tensors((args, kwargs))) == versions:
                shaped = func.name().startswith("aten::new_") or "_like" in func.name()  # only shapes matter
                args, kwargs = tree_map_only(Tensor, _blank if shaped else self.value, (args, kwargs))
                elsewhere = {"device": "cpu"} if kwargs.get("device") is not None else {}
                self.given[id(x)] = (x, func(*args, **kwargs | elsewhere), version)
        _, value, version = self.given.get(id(x), (x, x, -1))
        if x._version != version:
            raise UnknownValueError("a number depends on parameters, on chance, or on what was overwritten")
        return value


class Literals(TorchFunctionMode):
    """Tells of numbers in the code, as in torch.tensor([1, 2]) and x[:, [0, -1]], which have no data either."""

    def __init__(self, known: Known):
        super().__init__()
        self.known = known

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.__getitem__ and args[0].is_meta:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            made = (torch.tensor(one, device="meta") if _numbers(one) else one for one in index)
            index = tuple(self._told(x, one) if x is not one else one for x, one in zip(made, index, strict=True))
            return func(args[0], index)
        result = func(*args, **kwargs)
        return self._told(result, args[0]) if func is torch.tensor and result.is_meta and args else result

    def _told(self, x: Tensor, numbers: Any) -> Tensor:
        if not any(isinstance(one, Tensor) for one in tree_leaves(numbers)):
            with _disable_current_modes(), torch._C.DisableTorchFunction():
                self.known.give(x, torch.tensor(numbers, dtype=x.dtype, device="cpu"))
        return x


def _numbers(index: Any) -> bool:
    return isinstance(index, list) and all(isinstance(one, int) for one in index)


def _blank(x: Tensor) -> Tensor:
    return torch.empty((), dtype=x.dtype).expand(x.shape)


def _is_certain(func: Any) -> bool:
    """Whether an operation gives the same numbers whenever it runs on the same ones, and changes none."""
    chance = torch.Tag.nondeterministic_seeded in func.tags or "empty" in func.name()
    return not chance and not func._schema.is_mutable
