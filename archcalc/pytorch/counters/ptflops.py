"""ptflops' get_model_complexity_info, with each of its backends."""

import contextlib
import io
from functools import partial
from typing import Any

import torch
from torch import nn

from archcalc.pytorch.counters.base import Arguments, Counted, Counter, required, unfused


class _Given(nn.Module):
    """A call of a module: to ptflops that is a module without inputs, whose total is not divided by a batch."""

    def __init__(self, module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.module, self.args, self.kwargs = module, args, kwargs

    def forward(self) -> Any:
        return self.module(*self.args, **self.kwargs)


def count(backend: str, module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
    """What ptflops calls MACs. With gradients on, as its documentation calls it, but without the encoder's fast path.

    Of one image ptflops is told as its users do. Otherwise it gets the whole call, since the `pytorch` backend divides
    by the batch what modules count but not what functions count.
    """
    ptflops = required("ptflops")
    one_image = (
        len(args) == 1 and not kwargs and isinstance(args[0], torch.Tensor) and args[0].ndim and len(args[0]) == 1
    )
    said = io.StringIO()
    with torch.enable_grad(), unfused(), contextlib.redirect_stdout(said):
        total, params = ptflops.get_model_complexity_info(
            module if one_image else _Given(module, args, kwargs),
            (1,),
            input_constructor=lambda _: args[0] if one_image else {},
            as_strings=False,
            print_per_layer_stat=False,
            backend=backend,
        )
    if total is None:  # it prints what was raised
        raise RuntimeError(said.getvalue().partition("exception: \n")[2].partition("\n")[0])
    return Counted(int(total), params=int(params))


COUNTERS = (
    Counter("ptflops", "ptflops", partial(count, "pytorch"), patches=True),
    Counter("ptflops-aten", "ptflops", partial(count, "aten")),
)
