"""Saved: which tensors autograd really keeps while a module runs forward in training mode."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from archcalc.pytorch.untouched import untouched


def saved_bytes(module: nn.Module, *inputs: Tensor, autocast: torch.dtype | None = None) -> int:
    """Bytes of the storages that autograd keeps, each once; those of parameters, buffers and inputs aside.

    One forward pass in training mode, under `torch.autocast` where a dtype is given; the module is left as it was.

    >>> saved_bytes(nn.Sequential(nn.Linear(8, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)), torch.rand(16, 8))
    256
    """
    storages: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    context = nullcontext() if autocast is None else torch.autocast(inputs[0].device.type, dtype=autocast)
    with untouched(module, inputs), torch.enable_grad(), context, saved_tensors_hooks(note, lambda tensor: tensor):
        module.train()
        output = module(*inputs)
        owned = (*module.parameters(), *module.buffers(), *inputs)
        apart = {tensor.untyped_storage()._cdata for tensor in owned}
        kept = sum(storage.nbytes() for key, storage in storages.items() if key not in apart)
        del output  # until here it held the graph, so that no storage was used for another tensor
    return kept
