"""Leave a module as it was: what is saved of it and of the random number generators while others work with it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from archcalc.pytorch.devices import generators_kept


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
    with generators_kept(*(tensor.device for tensor in (*tensors, *inputs))):
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
