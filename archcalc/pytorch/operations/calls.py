"""A call of an operation, and the rules that say what each computes, by its name in torch.ops.aten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archcalc.errors import SpecError
from archcalc.layers import Layer
from archcalc.layers.operation import Uncounted

_OF_COMPLEX = {"mul", "polar"}
"""Operations whose rule knows complex numbers."""

_VIEWS = {"as_strided", "diagonal", "unfold", "view_as_real", "view_as_complex"}
"""Operations without a layer of their own that put out a view."""


class Call(NamedTuple):
    """One call of an operation: its name without namespace, overload and underscore, and what it works on.

    `given` are the shapes of the tensors that flow in, as they were before the call.
    """

    name: str
    inplace: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]
    given: tuple[tuple[int, ...], ...]
    output: Tensor

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)


Rule = Callable[[Call], Layer]

RULES: dict[str, Rule] = {}
"""The rule of every operation there is one for, by its name in torch.ops.aten (in-place ones without underscore)."""


def operation(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of operations: a function from the call to the layer that states its cost.

    Raises SpecError for an operation that has a rule, and for one that torch does not have.

    >>> @operation("my_library::swish")
    ... def swish(call):
    ...     return Elementwise("swish", (("mul", 1), ("exp", 1), ("add", 1), ("div", 1)))
    """

    def register(rule: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise SpecError(f"there is already a rule for the operation {name}")
            ours = _is_ours(rule)  # which are for any version of torch
            if not ours and "::" not in name and not _exists(name):
                near = next((f"; did you mean {one}?" for one in (f"_{name}", name.strip("_")) if _exists(one)), "")
                raise SpecError(f"there is no operation torch.ops.aten.{name}{near}")
            RULES[name] = rule
        return rule

    return register


def _is_ours(rule: Rule) -> bool:
    return (rule.__module__ or "").startswith(__package__)  # None in code that is in no module


def _exists(name: str) -> bool:
    """Whether calls can have this name: torch has the operation, which in place has an underscore more."""
    aten, inplace = torch.ops.aten, name.endswith("_") and not name.endswith("__")
    return not inplace and (hasattr(aten, name) or hasattr(aten, f"{name}_"))


def layer_of(call: Call) -> Layer:
    """The layer that states what a call computes; Uncounted where no rule knows it.

    Our own rules of what computes are for real numbers: a complex product is several real ones.
    """
    rule = RULES.get(call.name)
    if rule is None:
        return unknown(call)
    layer = rule(call)
    if any(x.dtype.is_complex for x in (*call.inputs, call.output)) and _is_ours(rule) and call.name not in _OF_COMPLEX:
        return unknown(call) if any(nest.ops for nest in layer.nests(*call.given)) else layer
    return layer


def unknown(call: Call) -> Layer:
    """The row of a call whose cost no rule states."""
    return Uncounted(call.name, call.given, tuple(call.output.shape), inplace_view(call))


def inplace_view(call: Call) -> bool:
    """Whether the output lives in the memory of an input."""
    return call.inplace or call.name in _VIEWS
