"""Build: a network as a real torch module whose submodules and `state_dict` are named as its layers are."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from archcalc import units
from archcalc.analysis import analyze
from archcalc.errors import CheckError, InputError
from archcalc.extents import Shape, as_shape
from archcalc.graph import Network, Node
from archcalc.layers import Input, Layer
from archcalc.layers.operation import Elementwise, MatMul, Ops, Permute, Recorded, Reduce, Reshape, Slice
from archcalc.overwriting import overwriting
from archcalc.pytorch.attention import (
    ClassToken,
    ImageToTokens,
    MultiheadAttention,
    PositionalEmbedding,
    TakeToken,
)
from archcalc.pytorch.devices import memory_guard


class Add(nn.Module):
    """Elementwise sum of two or more tensors; `inplace` overwrites the first."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        """The sum, shaped as the first is."""
        total = first.add_(others[0]) if self.inplace else first + others[0]
        for other in others[1:]:
            total += other
        return total


class Concat(nn.Module):
    """Tensors joined along an axis."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *inputs: Tensor) -> Tensor:
        """The joined tensor."""
        return torch.cat(inputs, self.dim)


class Subsample(nn.Module):
    """Every stride-th row and column, a view of the input."""

    def __init__(self, stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, ⌈H/stride⌉, ⌈W/stride⌉)."""
        return x[:, :, :: self.stride[0], :: self.stride[1]]


class PadChannels(nn.Module):
    """Channels of zeros after the input's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C + channels, H, W)."""
        return functional.pad(x, (0, 0, 0, 0, 0, self.channels))


class TableConv2d(nn.Module):
    """Convolution between the maps that a table connects, with R·S weights a connection and a bias a map."""

    def __init__(self, table: tuple[tuple[int, ...], ...], kernel_size: tuple[int, int]) -> None:
        super().__init__()
        self.table, self.kernel_size = table, kernel_size
        self.seen = [i for row in table for i in row]
        self.maps = [k for k, row in enumerate(table) for _ in row]
        self.weight = nn.Parameter(torch.rand(len(self.seen), *kernel_size) / math.prod(kernel_size))
        self.bias = nn.Parameter(torch.zeros(len(table)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H − R + 1, W − S + 1)."""
        sums = functional.conv2d(x[:, self.seen], self.weight[:, None], groups=len(self.seen))
        output = self.bias[:, None, None].expand(len(x), -1, *sums.shape[2:])
        return output.to(sums.dtype).index_add(1, torch.tensor(self.maps, device=x.device), sums)


class RBF(nn.Module):
    """Squared distances to fixed centres."""

    centres: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features
        self.register_buffer("centres", torch.ones(out_features, in_features))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) to (N, K)."""
        return (x[:, None] - self.centres).square().sum(-1)


class Operation(nn.Module):
    """One of torch's operations, as `archcalc.layers.operation` states it."""

    def __init__(self, layer: Layer, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.layer, self.run = layer, run

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the operation gives."""
        return self.run(*inputs)

    def extra_repr(self) -> str:
        """The operation."""
        return str(self.layer)


def _operation(layer: Layer, inputs: int, *, in_place: bool) -> Callable[..., Tensor] | None:
    """The function of an operation that its layer determines: a product by a number, say, is not."""
    match layer:
        case Elementwise(op=op) if inputs == 2 and layer.ops == _ELEMENTWISE.get(op):
            return getattr(Tensor, f"{op}_" if in_place and layer.inplace else op)  # type: ignore[no-any-return]
        case Reduce(op="sum" | "mean" | "amax" | "amin" as op, dims=dims, keepdim=keepdim):
            return partial(getattr(torch, op), dim=dims, keepdim=keepdim)
        case Permute(dims=dims):
            return partial(torch.permute, dims=dims)
        case Reshape():
            return lambda x: x.reshape(layer.output(tuple(x.shape)))
        case Slice(dim=dim, start=start, stop=stop, step=step):
            return lambda x: x[(*(slice(None),) * (dim % x.ndim), slice(start, stop, step))]
        case Recorded(op="cat" | "clone", copied=0) if inputs == 1:
            return torch.clone
        case MatMul(op="mm" | "bmm" | "mv" | "dot" as op):
            return getattr(torch, op)  # type: ignore[no-any-return]
        case _:
            return None


_ELEMENTWISE: dict[str, Ops] = {
    "add": (("add", 1),),
    "mul": (("mul", 1),),
    "maximum": (("cmp", 1),),
    "minimum": (("cmp", 1),),
}
"""Operations on two tensors that have no further argument where their cost is this."""


_OWN = (
    *(Add, Concat, Subsample, PadChannels, TableConv2d, RBF),
    *(MultiheadAttention, ImageToTokens, ClassToken, PositionalEmbedding, TakeToken),
)
KINDS: dict[str, type[nn.Module]] = {kind.__name__: kind for kind in _OWN}
"""Kinds of layer that torch.nn has no class for."""


class Block(nn.Module):
    """Layers whose names begin alike; the network calls them, not the block."""


class _Step(NamedTuple):
    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    dead: tuple[str, ...]  # values that no later step reads


class BuiltNetwork(nn.Module):
    """A network's layers as torch modules, run in the network's order; `get_submodule` knows them by name.

    A layer that would overwrite a tensor that is still needed, or the caller's, is built out of place.
    """

    def __init__(self, network: Network, shape: Shape) -> None:
        super().__init__()
        self.network = network
        self.shape = shape
        several = len(network.input_nodes) != 1
        inputs = {row.name: row.inputs for row in analyze(network, None if several else shape).rows}
        in_place = set(overwriting(network.nodes))
        dead = _dead(network)
        steps = []
        for node in network.nodes:
            if not isinstance(node.layer, Input):
                module = _module(node, inputs[node.name], in_place=node.name in in_place)
                _place(self, node.name, module)
                steps.append(_Step(node.name, module, node.inputs, dead[node.name]))
        self._steps = tuple(steps)

    def forward(self, *inputs: Tensor) -> Any:
        """The network's output, a tuple where it has several; each tensor is let go after its last use."""
        values = {node.name: x for node, x in zip(self.network.input_nodes, inputs, strict=True)}
        del inputs
        for step in self._steps:
            output = step.module(*[values[name] for name in step.inputs])
            values[step.name] = output
            for name in step.dead:
                del values[name]
        outputs = tuple(values[name] for name in self.network.outputs)
        return outputs if len(outputs) > 1 else outputs[0]


def build(network: Network, shape: Sequence[Any] | None = None, *, device: torch.device | str = "cpu") -> BuiltNetwork:
    """The network as a torch module for an input (N, C, H, W) of this shape, by default its own; its own for several.

    Raises InputError for a shape that is not of whole numbers, ShapeError, CheckError for a kind torch does not have.

    >>> from archcalc import zoo
    >>> build(zoo.resnet18(), device="meta").get_submodule("layer1.0.conv1")
    Conv2d(64, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """
    if shape is not None and len(network.input_nodes) > 1:
        raise InputError(f"{network.name} has {len(network.input_nodes)} inputs, and is built for their own shapes")
    with memory_guard(torch.device(device)), torch.device(device):
        return BuiltNetwork(network, whole_shape(network, shape))


def whole_shape(network: Network, shape: Sequence[Any] | None = None) -> tuple[int, ...]:
    """The shape, by default the network's own, as ints. Raises InputError where it has symbols or arrays."""
    own = network.input_nodes[0].layer.output() if network.input_nodes else ()
    given = as_shape(own if shape is None else shape)
    whole = tuple(number for number in map(units.exact, given) if number is not None)
    if len(whole) < len(given):
        raise InputError(
            f"{network.name} on {units.shape(given)}: a torch module needs an input shape of whole numbers, "
            "not of symbols or arrays"
        )
    return whole


def _module(node: Node, inputs: tuple[Shape, ...], *, in_place: bool) -> nn.Module:
    kind = node.layer.kind
    made = KINDS.get(kind) or getattr(nn, kind, None)
    run = _operation(node.layer, len(inputs), in_place=in_place)
    if run is not None:
        return Operation(node.layer, run)
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise CheckError(f"{node.name}: torch.nn has no module {kind}, so no real layer can be built of it")
    arguments = node.layer.arguments(*inputs)
    if "inplace" in arguments:
        arguments["inplace"] = in_place
    try:
        return made(**arguments)
    except (TypeError, ValueError) as error:
        raise CheckError(f"{node.name}: torch.nn.{kind} cannot be built of {arguments}: {error}") from error


def _place(root: nn.Module, name: str, module: nn.Module) -> None:
    *blocks, leaf = name.split(".")
    parent = root
    try:
        for block in blocks:
            if block not in parent._modules:
                parent.add_module(block, Block())
            parent = parent.get_submodule(block)
            if not isinstance(parent, Block):
                raise KeyError("a layer cannot lie inside another")
        if leaf in parent._modules:
            raise KeyError("a block of layers has that name")
        parent.add_module(leaf, module)
    except KeyError as error:
        raise CheckError(f"{name}: no torch submodule can have this name: {error.args[0]}") from None


def _dead(network: Network) -> dict[str, tuple[str, ...]]:
    """For each node the values that it is the last to read, its own where no node reads it; never an output."""
    nodes = network.nodes
    last = {node.name: node.name for node in nodes} | {name: node.name for node in nodes for name in node.inputs}
    dead: dict[str, tuple[str, ...]] = {node.name: () for node in nodes}
    for name, reader in last.items():
        if name not in network.outputs:
            dead[reader] += (name,)
    return dead
