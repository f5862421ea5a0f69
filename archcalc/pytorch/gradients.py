"""Gradients: which pixels an output of a real module depends on, found by running it backward."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from archcalc.analysis import Report, analyze
from archcalc.errors import InputError
from archcalc.graph import Network
from archcalc.layers import KINDS, Input
from archcalc.layers.activation import GLU
from archcalc.layers.base import ints
from archcalc.pytorch.build import build, whole_shape


class Probe:
    """A network as a real module in which nothing that an output depends on can have a gradient of 0.

    Weights and image are positive, drawn with a fixed seed, in float64, so that no terms cancel. Where the
    gradient hides a dependence, it is replaced, the values stay: a maximum passes it to all taps of its window, as any
    of them may be the largest; an activation passes it as it is, as it has the same places before and after.
    """

    def __init__(self, network: Network, shape: Sequence[Any] | None = None, *, seed: int = 0) -> None:
        self.report: Report = analyze(network, whole_shape(network, shape))
        self.module = build(network, shape).double().eval()
        for module in self.module.modules():
            if "inplace" in vars(module):
                vars(module)["inplace"] = False
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.module.parameters():
                fan_in = max(parameter[0].numel(), 1)
                parameter.copy_((torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5) / fan_in)
        self.image = torch.rand(self.report.input, generator=generator, dtype=torch.float64) + 0.5
        self.image.requires_grad_()
        self._generator = generator
        self.outputs: dict[str, Tensor] = {}
        with self._recorded():
            self.module(self.image)

    def pixels(self, layer: str, position: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Pixels along each axis on which the output of a layer at this position, over all channels, depends.

        Raises InputError for a position that the layer does not have.
        """
        output = self.image if isinstance(self.report[layer].node.layer, Input) else self.outputs[layer]
        places = output.shape[2:]
        if places and (
            len(position) != len(places) or any(not 0 <= p < n for p, n in zip(position, places, strict=True))
        ):
            raise InputError(f"{layer} has no output at {tuple(position)}: its outputs are {tuple(places)}")
        index: tuple[Any, ...] = (slice(None), slice(None), *position) if places else ()
        one = output[index]
        weights = torch.rand(one.shape, generator=self._generator, dtype=torch.float64) + 0.5  # a softmax sums to 1
        (gradient,) = torch.autograd.grad((one * weights).sum(), self.image, retain_graph=True, allow_unused=True)
        if gradient is None:
            return ((),) * (self.image.dim() - 2)
        reached = gradient != 0
        axes = range(2, reached.dim())
        return tuple(
            tuple(reached.any(dim=[other for other in range(reached.dim()) if other != axis]).nonzero()[:, 0].tolist())
            for axis in axes
        )

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Hooks that replace gradients and keep every layer's output, gone afterwards."""
        hooks = []
        for row in self.report.rows:
            if not row.sources:
                continue
            module = self.module.get_submodule(row.name)
            hooks.append(module.register_forward_hook(self._hook(row.name, row.node.layer)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _hook(self, name: str, layer: Any) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if layer.kind in _MAXIMA:
                output = _passing(output, _every_tap(inputs[0], output, layer))
            elif layer.kind in _POINTWISE:
                output = _passing(output, inputs[0])
            self.outputs[name] = output
            return output

        return hook


_MAXIMA = {"MaxPool1d", "MaxPool2d", "MaxPool3d"}
_POINTWISE = {
    name for name, kind in KINDS.items() if kind.__module__ == "archcalc.layers.activation" and kind is not GLU
}


def _passing(values: Tensor, through: Tensor) -> Tensor:
    """The values, with the gradient of another tensor of their shape."""
    return values.detach() + (through - through.detach())


def _every_tap(x: Tensor, output: Tensor, layer: Any) -> Tensor:
    """The sum over every window, as large as the output: taps past the ends add nothing."""
    windows = list(zip(*map(ints, (layer.kernel_size, layer.stride, layer.padding, layer.dilation)), strict=True))
    for axis, (taps, stride, before, dilation) in enumerate(windows, start=2):
        outputs = output.shape[axis]
        reach = (outputs - 1) * stride + (taps - 1) * dilation + 1
        sizes = [0, 0] * (x.dim() - 1 - axis) + [before, max(0, reach - before - x.shape[axis])]
        padded = nn.functional.pad(x, sizes)
        places = torch.arange(outputs) * stride
        x = torch.stack([padded.index_select(axis, places + tap * dilation) for tap in range(taps)]).sum(0)
    return x
