"""Memory: every number against PyTorch itself, to the byte, and small ones against arithmetic by hand."""

import contextlib
import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import archcalc as ac
from archcalc.backward import backward_macs, graded
from archcalc.cli import main
from archcalc.errors import InputError, ShapeError, UnknownNameError
from archcalc.footprint import parse_bytes
from archcalc.graph import Network
from archcalc.layers import KINDS, Add, Conv2d, Flatten, Layer, Linear, MaxPool2d, PReLU, ReLU
from archcalc.pytorch.build import build
from archcalc.pytorch.saved import saved_bytes
from archcalc.pytorch.trace import trace
from tests.test_imports import loaded

IMAGES, SIGNALS, VOLUMES = (2, 4, 6, 6), (2, 4, 6), (2, 4, 6, 6, 6)
HALF = torch.bfloat16


def tried() -> Iterator[tuple[Layer, tuple[int, ...]]]:
    """Every kind that states what it keeps, its choices that matter, and an input."""
    overwriting = ("ReLU", "ReLU6", "Hardtanh", "LeakyReLU", "RReLU", "ELU", "CELU", "SELU", "SiLU", "Mish")
    pure = ("Sigmoid", "LogSigmoid", "Tanh", "Tanhshrink", "Hardshrink", "Softshrink", "Softplus", "Softsign", "GELU")
    others = ("GLU", "PReLU", "Softmax", "Softmin", "LogSoftmax", "Softmax2d", "Identity", "Flatten")
    dropouts = {"Dropout": IMAGES, "Dropout1d": SIGNALS, "Dropout2d": IMAGES, "Dropout3d": VOLUMES}
    dropouts |= {"AlphaDropout": IMAGES, "FeatureAlphaDropout": IMAGES}
    norms = {"BatchNorm1d": SIGNALS, "BatchNorm2d": IMAGES, "BatchNorm3d": VOLUMES}
    norms |= {"InstanceNorm1d": SIGNALS, "InstanceNorm2d": IMAGES, "InstanceNorm3d": VOLUMES}

    def made(name: str, shape: tuple[int, ...], *arguments: Any, **fields: Any) -> tuple[Layer, tuple[int, ...]]:
        return KINDS[name](*arguments, **fields), shape

    yield from (
        made(name, IMAGES, inplace=inplace)
        for name in (*overwriting, "Hardsigmoid", "Hardswish")
        for inplace in (False, True)
    )
    yield from (made("Threshold", IMAGES, 0.1, 0.0, inplace=inplace) for inplace in (False, True))
    yield from (made(name, IMAGES) for name in (*pure, *others))
    yield from (made("GELU", IMAGES, "tanh"), made("PReLU", IMAGES, 4), made("GLU", IMAGES, 1))
    for name, shape in dropouts.items():
        yield from (made(name, shape, p, inplace=inplace) for p in (0, 0.5, 1) for inplace in (False, True))
    for name, shape in norms.items():
        for affine in (False, True):
            yield from (made(name, shape, affine=affine, track_running_stats=track) for track in (False, True))
    yield made("BatchNorm1d", (8, 4))
    yield from (made("GroupNorm", IMAGES, 2, affine=affine) for affine in (False, True))
    for normalized in (6, (6, 6)):
        yield from (made("LayerNorm", IMAGES, normalized, elementwise_affine=affine) for affine in (False, True))
    yield from (made("LocalResponseNorm", shape, size) for shape in (SIGNALS, IMAGES, VOLUMES) for size in (4, 5))
    for rank, shape in enumerate((SIGNALS, IMAGES, VOLUMES), start=1):
        conv = f"Conv{rank}d"
        yield from (made(conv, shape, 8, 3), made(conv, shape, 8, 3, bias=False), made(conv, shape, 4, 3, groups=4))
        yield from (made(conv, shape, 4, size, padding="same") for size in (3, 4))
        for mode in ("reflect", "replicate", "circular"):
            yield made(conv, shape, 4, 3, padding=1, padding_mode=mode)
        yield made(f"ConvTranspose{rank}d", shape, 3, 3)
        yield from (made(f"{name}{rank}d", shape, 2) for name in ("MaxPool", "AvgPool"))
        yield from (made(f"LPPool{rank}d", shape, norm, 2) for norm in (2, 3, math.inf))
        for name in ("AdaptiveAvgPool", "AdaptiveMaxPool"):
            yield from (made(f"{name}{rank}d", shape, bins) for bins in (1, 2, 4))
        for name in ("ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad"):
            yield made(f"{name}{rank}d", shape, 1)
        yield made(f"ConstantPad{rank}d", shape, 1, 2.0)
        yield made("Upsample", shape, scale_factor=2)
    yield from (made("Linear", shape, 5, bias=bias) for shape in ((2, 6), SIGNALS, IMAGES) for bias in (False, True))
    yield made("AdaptiveAvgPool2d", IMAGES, (1, None))
    yield from (made("FractionalMaxPool2d", IMAGES, 2, 3), made("FractionalMaxPool3d", VOLUMES, 2, 3))
    yield from (made("Upsample", IMAGES, scale_factor=2, mode=mode) for mode in ("bilinear", "bicubic"))
    yield from (made(name, IMAGES, scale_factor=2) for name in ("UpsamplingNearest2d", "UpsamplingBilinear2d"))
    yield from (made(name, IMAGES, 2) for name in ("PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "Subsample"))
    yield from (made("ImageToTokens", IMAGES), made("ClassToken", SIGNALS), made("PositionalEmbedding", SIGNALS, 4))
    yield made("TakeToken", SIGNALS, 1)
    yield from (made("Unflatten", IMAGES, 1, (2, 2)), made("PadChannels", IMAGES, 3))
    for normalized in (6, (4, 6)):
        yield from (made("RMSNorm", SIGNALS, normalized, elementwise_affine=affine) for affine in (False, True))
    yield made("TableConv2d", IMAGES, ((0, 1), (1, 2), (0, 1, 3)), 3)
    yield made("RBF", (2, 6), 5)
    for shape in ((2, 5, 8), (1, 5, 8), (5, 1, 8), (1, 1, 8)):
        for first in (False, True):
            yield from (made("MultiheadAttention", shape, 2, p, batch_first=first) for p in (0.0, 0.1, 1.0))
            yield from (made(name, shape, 7, batch_first=first) for name in ("RNN", "LSTM", "GRU"))
    for name in ("RNN", "LSTM", "GRU"):
        yield made(name, (5, 2, 8), 7, bidirectional=True)
        yield from (made(name, (5, 8), 7, batch_first=first) for first in (False, True))
        yield made(name, (5, 2, 8), 7, 2, bidirectional=True, batch_first=True)
        yield from (made(name, (5, 2, 8), 7, 3, bidirectional=True, dropout=p) for p in (0.0, 0.5, 1.0))
    yield from (made("RNN", (5, 2, 8), 7, bias=False), made("RNN", (5, 2, 8), 7, nonlinearity="relu"))
    yield from (made("LSTM", (5, 2, 8), 7, 2, bias=False), made("LSTM", (5, 2, 8), 7, 2, dropout=0.5))
    yield from (made("LSTM", (9, 3, size), hidden) for size, hidden in ((300, 64), (64, 64), (1, 256)))
    yield from (
        made(name, (2, 6), 5, bias=bias) for name in ("RNNCell", "LSTMCell", "GRUCell") for bias in (True, False)
    )


TRIED = list(tried())


def real(module: nn.Module, x: Tensor, dtype: str) -> int:
    """What autograd keeps of the module in this dtype."""
    if dtype == "mixed":
        return saved_bytes(module, x, autocast=HALF)
    number = getattr(torch, dtype)
    return saved_bytes(module.to(number), x.to(number))


NOT_IN_HALF = {"LocalResponseNorm", "AvgPool3d", "LPPool3d"}
"""Kinds that PyTorch cannot compute in bfloat16 on the CPU, for some inputs at least."""


def goes_without(layer: Layer, dtype: str) -> bool:
    """Whether PyTorch casts between the steps of the layer, or oneDNN leaves it: these alone go without a figure."""
    if layer.kind == "LSTM":
        return dtype != "float32"
    if layer.kind == "MultiheadAttention":
        return dtype in ("bfloat16", "mixed") and getattr(layer, "dropout", 0) > 0
    padded = getattr(layer, "padding_mode", "zeros") in ("reflect", "replicate")
    stepwise = ("LPPool3d", "RNN", "GRU", "RNNCell", "LSTMCell", "GRUCell")
    return dtype == "mixed" and (padded or layer.kind in stepwise)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel", "ignore:Mismatch dtype between input")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "mixed"])
@pytest.mark.parametrize(("layer", "shape"), TRIED, ids=[f"{layer.kind}{i}" for i, (layer, _) in enumerate(TRIED)])
def test_each_kind_keeps_what_autograd_keeps(layer: Layer, shape: tuple[int, ...], dtype: str) -> None:
    network = Network.sequential("net", shape, [PReLU(), layer])
    held = ac.memory(network, dtype=dtype)
    if dtype == "bfloat16" and layer.kind in NOT_IN_HALF:
        pytest.skip("not implemented in PyTorch")
    kept = real(build(network), torch.rand(shape), dtype)
    assert bool(held.unstated) == goes_without(layer, dtype)
    if held.unstated:
        assert held.kept < kept
    else:
        assert held.kept == kept


@pytest.mark.parametrize("shape", [(2, 5, 8), (1, 5, 8), (2, 1, 8)])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", ["MultiheadAttention", "RNN", "GRU"])
def test_a_sequence_that_two_layers_read_is_kept_once_unless_each_reorders_it(
    kind: str, first: bool, shape: tuple[int, ...]
) -> None:
    net = ac.Builder("net", shape)
    shared = net.add(PReLU())
    net.add(Add(), after=[net.add(getattr(ac.layers, kind)(8, batch_first=first), after=shared) for _ in range(2)])
    network = net.network()
    assert ac.memory(network).kept == saved_bytes(build(network), torch.rand(shape))


def test_every_kind_that_states_what_it_keeps_is_tried() -> None:
    # Kinds that join tensors or take ids, and loose operations, have tests of their own below.
    elsewhere = {"Add", "Concat", "Bilinear", "Embedding", "EmbeddingBag", "Input"}
    stating = {
        name
        for name, kind in KINDS.items()
        if kind.__module__.startswith("archcalc.layers.")
        and not kind.__module__.startswith("archcalc.layers.operation")
        and (kind.kept is not None or kind.keeps is not Layer.keeps)
    }
    assert stating - {layer.kind for layer, _ in TRIED} - elsewhere == set()


class Loose(nn.Module):
    """A function of two images that gradients flow into."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.PReLU(), nn.PReLU()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first(x), self.second(x))


LOOSE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: a + b,
    "add in place": lambda a, b: a.add_(b),
    "multiply": lambda a, b: a * b,
    "multiply in place": lambda a, b: a.mul_(b),
    "multiply by itself": lambda a, b: a * a,
    "multiply by a number": lambda a, b: a * 3 + b,
    "multiply by no gradient": lambda a, b: a * a.new_ones(6) + b,
    "subtract, negate": lambda a, b: 1 - (-a) - b,
    "divide by a number": lambda a, b: a / 3 + b,
    "power": lambda a, b: a**2 + b**0.5,
    "roots": lambda a, b: a.sqrt() + b.rsqrt(),
    "exponentials": lambda a, b: a.exp() + b.log1p(),
    "sine": lambda a, b: a.sin() + b.cos(),
    "magnitudes": lambda a, b: a.abs() + b.clamp(0, 1),
    "larger": torch.maximum,
    "means": lambda a, b: a.mean((2, 3)) + b.sum((2, 3)),
    "spread": lambda a, b: a.var(1) + b.std(1),
    "largest": lambda a, b: a.amax(1) + b.norm(dim=1),
    "logsumexp": lambda a, b: a.logsumexp(1) + b.prod(1),
    "matrix product": lambda a, b: a @ b.transpose(-1, -2),
    "added product": lambda a, b: torch.addmm(a[0, 0], a[0, 1], b[1, 1]),
    "attention": lambda a, b: (a @ b.transpose(-1, -2)).softmax(-1) @ b,
    "cat": lambda a, b: torch.cat((a, b), 1),
    "chunks": lambda a, b: a.chunk(2, 1)[0] * b.chunk(2, 1)[1],
    "views": lambda a, b: a.flatten(1).view(2, 4, 36).permute(0, 2, 1) + b.reshape(2, 36, 4),
    "copies": lambda a, b: a.transpose(2, 3).contiguous().roll(1, 0) + b.flip(1),
    "pad": lambda a, b: nn.functional.pad(a, (1, 1)) + nn.functional.pad(b, (0, 2)),
    "pools": lambda a, b: nn.functional.max_pool2d(a, 2) + nn.functional.avg_pool2d(b, 2),
    "pool to one": lambda a, b: nn.functional.adaptive_avg_pool2d(a, 1) * b,
    "computed weights": lambda a, b: nn.functional.conv2d(a, b[:, :, :3, :3]),
    "layer norm": lambda a, b: nn.functional.layer_norm(a, (6,)) + b,
    "gated": lambda a, b: a * nn.functional.silu(b),
}


@pytest.mark.parametrize("name", LOOSE)
def test_loose_operations_keep_what_autograd_keeps(name: str) -> None:
    module = Loose(LOOSE[name])
    held = ac.memory(trace(module, IMAGES))
    assert not held.unstated
    assert held.kept == saved_bytes(module, torch.rand(IMAGES))


class Attending(nn.Module):
    """Attention written with scaled_dot_product_attention; queries, keys and values are laid out as `layout` says."""

    def __init__(self, layout: str = "transposed", mask: str = "", heads: int = 2, **arguments: Any) -> None:
        super().__init__()
        self.layout, self.mask, self.heads, self.arguments = layout, mask, heads, arguments
        self.queries, self.pair, self.out = nn.Linear(8, 4 * heads), nn.Linear(8, 16), nn.Linear(4 * heads, 8)
        if mask == "trained":
            self.bias = nn.Parameter(torch.zeros(5, 5))

    def forward(self, x: Tensor) -> Any:
        parts = (self.queries(x), *self.pair(x).chunk(2, -1))
        if self.layout != "one head":
            parts = tuple(part.unflatten(-1, (-1, 4)).transpose(1, 2) for part in parts)
        if self.layout == "copied":
            parts = tuple(part.contiguous() for part in parts)
        mask = x.new_ones(5, 5).tril().bool() if self.mask == "boolean" else x.new_zeros(5, 5)
        mask = self.bias if self.mask == "trained" else mask
        arguments = self.arguments | ({"attn_mask": mask} if self.mask else {})
        y = nn.functional.scaled_dot_product_attention(*parts, **arguments)
        if self.layout == "twice":
            y = nn.functional.scaled_dot_product_attention(y, *parts[1:], **arguments)
        y = y if self.layout == "one head" else y.transpose(1, 2).flatten(2)
        return self.out(y)


class SelfAttention(nn.Module):
    """PyTorch's attention on one input that has a gradient."""

    def __init__(self, *, masked: bool = False, causal: bool = False, weights: bool = False, **arguments: Any) -> None:
        super().__init__()
        self.first, self.inner = nn.PReLU(), nn.MultiheadAttention(8, 2, **arguments)
        self.masked, self.call = masked, {"is_causal": causal, "need_weights": weights}

    def forward(self, x: Tensor) -> Any:
        x = self.first(x)
        mask = nn.Transformer.generate_square_subsequent_mask(len(x), x.device, x.dtype) if self.masked else None
        return self.inner(x, x, x, attn_mask=mask, **self.call)[0]


ATTENTIONS: dict[str, tuple[nn.Module, bool]] = {
    "fused": (Attending(), True),
    "copied": (Attending("copied"), True),
    "twice": (Attending("twice"), True),
    "one head": (Attending("one head"), True),
    "causal": (Attending(is_causal=True), True),
    "boolean mask": (Attending(mask="boolean"), True),
    "added mask": (Attending(mask="added"), True),
    "trained mask": (Attending(mask="trained"), False),
    "groups of queries": (Attending(heads=4, enable_gqa=True), True),
    "module": (SelfAttention(), True),
    "module, batch first": (SelfAttention(batch_first=True), True),
    "module, masked": (SelfAttention(masked=True), True),
    "module, causal": (SelfAttention(masked=True, causal=True), True),
    "module, added token": (SelfAttention(add_bias_kv=True, add_zero_attn=True), True),
    "module, weights": (SelfAttention(weights=True), False),
    "module, dropout": (SelfAttention(dropout=0.1), False),
    "module, weights, dropout": (SelfAttention(weights=True, dropout=0.1), False),
    "module, all dropped": (SelfAttention(dropout=1.0), False),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True), False),
    "encoder without dropout": (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), True),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "mixed"])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_traced_attention_keeps_what_autograd_keeps(name: str, dtype: str) -> None:
    module, fused = copy.deepcopy(ATTENTIONS[name][0]), ATTENTIONS[name][1]
    held = ac.memory(trace(module, (2, 5, 8)), dtype=dtype)
    kept = real(module, torch.rand(2, 5, 8), dtype)
    assert ("are fused while training" in str(held)) == fused
    if not fused and "weights" not in name and dtype in ("bfloat16", "mixed"):  # PyTorch casts between the steps
        assert [row.kind for row in held.unstated] == ["bmm"]
        assert held.kept < kept
    else:
        assert not held.unstated
        assert held.kept == kept


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_normed_weights(dtype: str) -> None:
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.ReLU())
    held = ac.memory(trace(module, (2, 6)), dtype=dtype)
    assert not held.unstated
    assert held.kept == real(module, torch.rand(2, 6), dtype)


def test_kinds_with_two_inputs_or_ids() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.left, self.product = nn.Embedding(10, 6), nn.Linear(6, 5), nn.Bilinear(6, 5, 7)

        def forward(self, ids: Tensor) -> Any:
            x = self.table(ids)
            return self.product(x, self.left(x))

    ids = torch.zeros(2, 4, dtype=torch.int64)
    held = ac.memory(trace(Two(), ids))
    # x (2·4·6) once, though Linear and Bilinear read it; the output of Linear (2·4·5): (48 + 40) · 4 bytes
    assert held.kept == saved_bytes(Two(), ids) == 352
    assert held.inputs == 2 * 4 * 8


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 1])
def test_bags_of_ids(mode: str, padding: int | None) -> None:
    module = nn.Sequential(nn.EmbeddingBag(10, 6, mode=mode, padding_idx=padding), nn.Linear(6, 2))
    ids = torch.randint(0, 10, (3, 5))
    assert ac.memory(trace(module, ids)).kept == saved_bytes(module, ids)


class Sequence(nn.Module):
    """A recurrent layer whose state is given."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *state: Tensor) -> Any:
        return self.layer(x, state if len(state) > 1 else state[0])[0]


@pytest.mark.parametrize(("kind", "states"), [(nn.RNN, 1), (nn.GRU, 1), (nn.LSTM, 2)])
@pytest.mark.parametrize("first", [False, True])
def test_recurrent_layers_that_are_given_a_state(kind: Callable[..., nn.Module], states: int, first: bool) -> None:
    module = Sequence(kind(6, 5, batch_first=first))
    inputs = (torch.rand(3, 2, 6), *(torch.rand(1, 3 if first else 2, 5) for _ in range(states)))
    held = ac.memory(trace(module, inputs))
    assert bool(held.unstated) == first
    assert held.kept == (0 if first else saved_bytes(module, *inputs))


class Packed(nn.Module):
    """Sequences of unlike length."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer(nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3])))[0].data


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_a_packed_batch_makes_a_lower_bound(kind: Callable[..., nn.Module]) -> None:
    module, x = Packed(kind(8, 7)), torch.rand(5, 2, 8)
    held = ac.memory(trace(module, x))
    assert len(held.unstated) == 1
    assert held.kept < saved_bytes(module, x)


class Step(nn.Module):
    """One step of a cell whose state is given."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, *state: Tensor) -> Any:
        output = self.cell(x, state if len(state) > 1 else state[0])
        return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize(("kind", "states"), [(nn.RNNCell, 1), (nn.GRUCell, 1), (nn.LSTMCell, 2)])
def test_cells_that_are_given_a_state(kind: Callable[..., nn.Module], states: int) -> None:
    inputs = (torch.rand(2, 6), *(torch.rand(2, 5) for _ in range(states)))
    held = ac.memory(trace(Step(kind(6, 5)), inputs))
    assert not held.unstated
    assert held.kept == saved_bytes(Step(kind(6, 5)), *inputs)


NETWORKS = {
    "alexnet": ("alexnet-torchvision", torchvision.models.alexnet, {}, 64),
    "vgg19": ("vgg19", torchvision.models.vgg19, {}, 32),
    "resnet34": ("resnet34", torchvision.models.resnet34, {}, 64),
    "googlenet": (
        "googlenet-torchvision",
        torchvision.models.googlenet,
        {"aux_logits": False, "init_weights": False},
        64,
    ),
    "mobilenet-v2": ("mobilenet-v2", torchvision.models.mobilenet_v2, {}, 64),
}


@pytest.mark.parametrize("dtype", ["float32", "mixed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_built_from_the_zoo_keep_what_autograd_keeps(name: str, dtype: str) -> None:
    entry, _, _, size = NETWORKS[name]
    network, shape = ac.zoo.find(entry).build(), (2, 3, size, size)
    held = ac.memory(ac.analyze(network, shape), dtype=dtype)
    assert not held.unstated
    assert held.kept == real(build(network, shape), torch.rand(shape), dtype)


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_networks_keep_what_autograd_keeps(name: str) -> None:
    _, make, arguments, size = NETWORKS[name]
    with torch.device("meta"):
        module = make(**arguments)
    module.to_empty(device="cpu")
    shape = (2, 3, size, size)
    held = ac.memory(trace(module, (1, 3, size, size)), batch=2)
    assert not held.unstated
    assert held.kept == saved_bytes(module, torch.rand(shape))


DEEP = {"densenet121", "resnet50", "resnet101", "resnet152", "resnet56", "resnet110", "resnet1202", "googlenet"}
"""Entries that take long, and whose layers are those of others; the page about memory has all."""


@pytest.mark.parametrize("name", sorted({*ac.zoo.ENTRIES} - {entry for entry, *_ in NETWORKS.values()} - DEEP))
def test_each_entry_of_the_zoo_keeps_what_autograd_keeps(name: str) -> None:
    network, shape = reduced(name)
    held = ac.memory(ac.analyze(network, shape))
    assert not held.unstated
    assert held.kept == saved_bytes(build(network, shape, device="meta").to_empty(device="cpu"), torch.rand(shape))


def reduced(name: str) -> tuple[Network, tuple[int, ...]]:
    """An entry of the zoo and two images of the least size, of a few, that it takes."""
    network = ac.zoo.ENTRIES[name].build()
    _, *own = network.input_nodes[0].layer.output()
    for size in (32, 64, 96) if len(own) == 3 and own[-1] > 100 else ():
        with contextlib.suppress(ShapeError):
            return network, ac.analyze(network, (2, own[0], size, size)).input
    return network, (2, *own)


def test_a_traced_vision_transformer_keeps_what_autograd_keeps() -> None:
    with torch.device("meta"):
        module = torchvision.models.VisionTransformer(48, 16, 3, 4, 64, 128, num_classes=10)
    held = ac.memory(trace(module, (2, 3, 48, 48)))
    assert not held.unstated
    assert held.kept == saved_bytes(module.to_empty(device="cpu"), torch.rand(2, 3, 48, 48))


def test_a_network_at_full_size_keeps_what_autograd_keeps() -> None:
    network = ac.zoo.resnet34()
    assert ac.memory(network).kept == saved_bytes(build(network), torch.rand(1, 3, 224, 224))


def test_a_small_network_by_hand() -> None:
    network = Network.sequential(
        "small",
        (2, 3, 8, 8),
        [Conv2d(4, 3, padding=1), ReLU(inplace=True), MaxPool2d(2), Flatten(), Linear(10)],
    )
    held = ac.memory(network, optimizer="adam")
    # weights 4·3·3·3 + 4 + 10·64 + 10 = 762, of 4 bytes
    assert held.weights == held.gradients == 3048
    # two numbers for each, and a float32 for each of the four tensors
    assert held.state == 2 * 3048 + 4 * 4
    # ReLU's output 2·4·8·8 = 512 numbers, which the pool reads too; 2·4·4·4 = 128 indices of 8 bytes;
    # what Linear reads, 128 numbers
    assert [layer.kept for layer in held.layers] == [0, 0, 2048, 1024, 0, 512]
    # image 384 and map 512 numbers; map alone; map and pooled 128; pooled; pooled and 20 outputs
    assert [layer.live for layer in held.layers] == [1536, 3584, 2048, 2560, 512, 592]
    assert held.peak.row.name == "conv2d1"
    assert held.inference == 3048 + 3584
    assert held.training == 3048 + 3048 + 6112 + 1536 + 3584
    # products 2·8·8·4·27 = 13,824 (weights only, the image has no gradient) and 2·10·64 = 1,280 (both)
    assert held.forward_macs == 13824 + 1280
    assert held.backward_macs == 13824 + 2 * 1280


def test_mixed_precision_by_hand() -> None:
    network = Network.sequential("small", (2, 3, 8, 8), [Conv2d(4, 3, padding=1, bias=False), ReLU()])
    held = ac.memory(network, dtype="mixed", optimizer="momentum")
    # 108 weights in float32, their 16-bit copies, the image's 384 numbers in 16 bits, ReLU's 512 in 16 bits
    assert held.weights == held.gradients == held.state == 432
    assert held.copies == 216
    assert held.kept == 216 + 768 + 1024


def test_what_is_frozen_keeps_nothing_before_what_is_trained() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 32))
    module += nn.Sequential(nn.ReLU(), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 2))
    for frozen in (module[:4], module[6]):
        for parameter in frozen.parameters():
            parameter.requires_grad_(False)
    network = trace(module, IMAGES)
    held = ac.memory(network)
    assert held.kept == saved_bytes(module, torch.rand(IMAGES))
    assert held.gradients == 4 * (64 * 32 + 32 + 8 * 2 + 2)
    names = graded(held.report)
    # no gradient reaches the convolution; the frozen Linear passes one on to its input
    assert [backward_macs(held.report[name], names) for name in ("0", "4", "6", "8")] == [0, 4096, 512, 64]


def test_layers_that_do_not_state_what_they_keep_make_a_lower_bound(capsys: pytest.CaptureFixture[str]) -> None:
    held = ac.memory(trace(nn.LSTM(6, 5, proj_size=2), (3, 2, 6)))
    assert [row.kind for row in held.unstated] == ["LSTM"]
    text = str(held)
    assert "training, at least" in text
    assert "not stated" in str(held.table().to_terminal())
    assert held.to_dict()["at_least"] is True
    with torch.device("meta"):
        auxiliary = trace(torchvision.models.googlenet(init_weights=False), (1, 3, 224, 224))
    assert "aux1" in ", ".join(row.name for row in ac.memory(auxiliary).unstated)


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes alive at once of the storages that operations put out, and of these tensors."""

    def __init__(self, tensors: list[Tensor], owned: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.owned = {tensor.untyped_storage()._cdata for tensor in owned}
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        self._note(tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._note(tree_leaves(result))
        alive = sum(nbytes for storage, nbytes in self.storages.values() if not storage.expired())  # type: ignore[no-untyped-call,misc]
        self.peak = max(self.peak, alive)
        return result

    def _note(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self.owned:
                self.storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", ["alexnet-torchvision", "vgg19", "resnet34", "googlenet-torchvision", "mobilenet-v2"])
def test_peak_of_inference_is_the_real_one(name: str) -> None:
    network, shape = ac.zoo.find(name).build(), (2, 3, 64, 64)
    module = build(network, shape).eval()
    images = [torch.rand(shape)]
    with torch.no_grad(), Alive(images, [*module.parameters(), *module.buffers()]) as alive:
        module.forward(images.pop())
    assert ac.memory(ac.analyze(network, shape)).peak.live == alive.peak


@pytest.mark.parametrize("dtype", ["float32", "float16", "mixed"])
def test_weights_and_buffers_are_those_of_the_module(dtype: str) -> None:
    held = ac.memory(ac.zoo.resnet34(), dtype=dtype)
    module = build(ac.zoo.resnet34(), device="meta").to(torch.float16 if dtype == "float16" else torch.float32)
    assert held.weights == sum(one.nbytes for one in module.parameters())
    assert held.buffers == sum(one.nbytes for one in module.buffers())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_buffers_of_a_traced_module_are_as_wide_as_they_are(dtype: str) -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8))
            self.again = self.inner
            self.register_buffer("ids", torch.arange(8))
            self.register_buffer("mask", torch.ones(8, 1, 1, dtype=torch.bool))
            self.register_buffer("mean", torch.zeros(8, 1, 1))
            self.register_buffer("unused", torch.zeros(3, dtype=torch.int32))

        def forward(self, x: Tensor) -> Any:
            x = self.inner(x) - self.mean
            return self.again[1](x).masked_fill(self.mask, 0.0)[:, self.ids]

    module = Shifted()
    held = ac.memory(trace(module, IMAGES), dtype=dtype)
    assert held.buffers == sum(one.nbytes for one in module.to(getattr(torch, dtype)).buffers())
    # mean and variance of the norm 16, the module's mean 8; the norm's count and ids 9 of 8; the mask; what is unused
    assert dict(held.elements("buffer")) == {4 if dtype == "float32" else 2: 24, 8: 9, 1: 8} | (
        {4: 24 + 3} if dtype == "float32" else {4: 3}
    )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_optimizers_and_gradients_are_the_real_ones(name: str, dtype: str) -> None:
    network = ac.zoo.find("resnet20").build()
    module = build(network).to(getattr(torch, dtype))
    optimizer = OPTIMIZERS[name](module.parameters())
    module(torch.rand(2, 3, 32, 32, dtype=getattr(torch, dtype))).sum().backward()
    optimizer.step()
    tensors = [one for state in optimizer.state.values() for one in state.values() if isinstance(one, Tensor)]
    held = ac.memory(network, dtype=dtype, optimizer=name)
    assert held.state == sum(one.nbytes for one in tensors)
    assert held.gradients == sum(one.grad.nbytes for one in module.parameters() if one.grad is not None)


def step_flops(module: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        module(x).sum().backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("name", ["alexnet-torchvision", "vgg19", "resnet34", "googlenet-torchvision", "densenet121"])
def test_macs_of_a_training_step_are_those_flop_counter_mode_sees(name: str) -> None:
    network = ac.zoo.find(name).build()
    held = ac.memory(network)
    module = build(network, device="meta")
    assert 2 * (held.forward_macs + held.backward_macs) == step_flops(
        module, torch.empty(1, 3, 224, 224, device="meta")
    )


def test_flop_counter_mode_is_wrong_for_grouped_convolutions() -> None:
    # One group of 64 channels each: 64·8·8·9 = 36,864 MACs forward, as many for the weights. It takes the gradient of
    # the weights for that of an ungrouped convolution, 64 times too much, as that of the input, which has none here.
    network = Network.sequential("depthwise", (1, 64, 8, 8), [Conv2d(64, 3, padding=1, groups=64, bias=False)])
    held = ac.memory(network)
    assert (held.forward_macs, held.backward_macs) == (36864, 36864)
    flops = step_flops(build(network, device="meta"), torch.empty(1, 64, 8, 8, device="meta"))
    assert flops == 2 * (36864 + 64 * 36864)


def test_backward_macs_in_closed_form() -> None:
    report = ac.analyze(Network.sequential("net", (1, 3, 8, 8), [Conv2d(4, 3), Conv2d(8, 3)]), ("N", 3, "H", "W"))
    known = graded(report)
    assert sum(backward_macs(row, known) for row in report) == report["conv2d1"].macs + 2 * report["conv2d2"].macs


@pytest.mark.parametrize(("optimizer", "room"), [("none", 2**30), ("sgd", 10**9), ("adam", 16 * 2**30)])
def test_the_largest_batch_fits_and_one_more_does_not(optimizer: str, room: int) -> None:
    held = ac.memory(ac.zoo.resnet34(), optimizer=optimizer)
    largest = held.largest_batch(room)
    assert ac.memory(ac.zoo.resnet34(), batch=largest, optimizer=optimizer).total <= room
    assert ac.memory(ac.zoo.resnet34(), batch=largest + 1, optimizer=optimizer).total > room


def test_the_largest_batch_may_be_none() -> None:
    held = ac.memory(ac.zoo.vgg19())
    assert held.largest_batch(held.total - 1) == 0
    assert held.largest_batch(held.total) == 1


def test_a_network_that_takes_one_batch_only_says_so() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Any:
            return self.layer(x.view(2, 12))

    held = ac.memory(trace(Fixed(), (4, 6)))
    with pytest.raises(InputError, match="cannot take a batch of 1"):
        held.largest_batch(2**30)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("16GiB", 16 * 2**30), ("16GB", 16 * 10**9), ("1.5 kib", 1536), ("512 MiB", 2**29), ("4096", 4096), ("1B", 1)],
)
def test_bytes_as_typed(text: str, nbytes: int) -> None:
    assert parse_bytes(text) == nbytes


@pytest.mark.parametrize("text", ["16G", "GiB", "", "-1GB", "1e9", "12iB", "9" * 40, "16 GiB please"])
def test_bytes_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="write 16GiB"):
        parse_bytes(text)


def test_what_cannot_be_accounted_is_said() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'adam'"):
        ac.memory(ac.zoo.vgg19(), optimizer="adams")
    with pytest.raises(UnknownNameError, match="float32, float16"):
        ac.memory(ac.zoo.vgg19(), dtype="int8")
    with pytest.raises(InputError, match="positive whole number, not 0"):
        ac.memory(ac.zoo.vgg19(), batch=0)
    with pytest.raises(InputError, match="whole numbers, not symbols"):
        ac.memory(ac.analyze(ac.zoo.vgg19(), ("N", 3, 224, 224)))


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    saved_bytes(module, torch.rand(IMAGES, generator=torch.Generator().manual_seed(0)))
    assert not module[1].training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["memory", *arguments])
    assert not end.value.code
    return capsys.readouterr().out


def test_the_record_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(printed(capsys, "resnet34", "--batch", "32", "--optimizer", "adam", "--format", "json"))
    assert record["schema"] == "archcalc.memory/1"
    assert (record["batch"], record["optimizer"], record["at_least"]) == (32, "adam", False)
    assert record["kept"] == sum(layer["kept_bytes"] for layer in record["layers"])
    assert record["peak"]["bytes"] == max(layer["live_bytes"] for layer in record["layers"])
    parts = ("weights", "buffers", "gradients", "optimizer_state", "inputs", "kept")
    assert record["training"] == record["total"] == sum(record[part] for part in parts)
    assert record["step_macs"] == record["forward_macs"] + record["backward_macs"]


def test_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    table = printed(capsys, "lenet5-cifar10", "--unicode", "--fits", "1MiB")
    assert table.count("lenet5-cifar10 on 1×3×32×32, float32, training with sgd: memory") == 2
    assert "Largest batch in 1,048,576 bytes" in table
    csv = printed(capsys, "lenet5-cifar10", "--format", "csv").splitlines()
    assert csv[0] == "layer,kind,output,writes,kept for backward,alive at inference"
    kept = [int(line.split(",")[-2]) for line in csv[1:]]
    assert sum(kept[:-1]) == kept[-1]
    assert printed(capsys, "lenet5-cifar10", "--format", "latex").count(r"\documentclass") == 1
    assert "kept for backward" in printed(capsys, "lenet5-cifar10", "--format", "latex", "--summary")
    inference = printed(capsys, "lenet5-cifar10", "--optimizer", "none")
    assert "kept for backward" not in inference
    assert "inference" in inference


@pytest.mark.parametrize("options", [["--fits", "16G"], ["--dtype", "int3"], ["--optimizer", "lion"], ["--batch", "N"]])
def test_bad_options_are_one_message(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["memory", "lenet5-cifar10", *options])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("archcalc: ")


def test_memory_loads_nothing_heavy() -> None:
    assert loaded("import archcalc\nstr(archcalc.memory(archcalc.zoo.resnet34(), optimizer='adam'))") == set()


def test_totals_add_up_for_a_network_with_running_statistics() -> None:
    held = ac.memory(ac.zoo.resnet18(), optimizer="none")
    state = torchvision.models.resnet18().state_dict().values()
    assert held.weights + held.buffers == sum(tensor.nbytes for tensor in state)
    assert held.buffers == 4 * 9600 + 8 * 20  # two numbers for each of 4,800 channels, a count for each of 20 layers
    assert held.total == held.inference == sum(tensor.nbytes for tensor in state) + held.peak.live


def test_tied_weights_have_one_count_of_adams_steps() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[2].weight = module[0].weight
    held = ac.memory(trace(module, (2, 4)), optimizer="adam")
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.rand(2, 4)).sum().backward()
    optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values()]
    assert held.tensors == len(optimizer.state) == 3
    assert held.state == sum(value.nbytes for value in kept)


def test_a_batch_of_one_may_be_asked_for() -> None:
    report = ac.analyze(ac.zoo.lenet5(), (2, 1, 32, 32))
    assert ac.memory(report, batch=1) == ac.memory(ac.zoo.lenet5())
    assert ac.memory(report, batch=1).kept == ac.memory(ac.zoo.lenet5()).kept


def test_backward_macs_of_attention_and_of_two_directions_by_hand() -> None:
    # 10 tokens of 8 to 24, whose own gradient nobody asks for; scores and sums 2·2·5·5·4 each; 10 tokens of 8 to 8
    attention = Network.sequential("net", (2, 5, 8), [ac.layers.MultiheadAttention(2, batch_first=True)])
    held = ac.memory(attention)
    assert held.backward_macs == 10 * 24 * 8 + 2 * (2 * 400 + 10 * 8 * 8)
    with sdpa_kernel(SDPBackend.MATH):  # a fused kernel computes the scores a second time
        assert 2 * (held.forward_macs + held.backward_macs) == step_flops(build(attention), torch.rand(2, 5, 8))
    # 5 steps in 2 directions: 3·4 gates of 3 inputs, for the weights alone, and of 4 states, for both
    gates = Network.sequential("net", (5, 1, 3), [ac.layers.GRU(4, bidirectional=True)])
    assert ac.memory(gates).backward_macs == 2 * 5 * (12 * 3 + 2 * 12 * 4)
