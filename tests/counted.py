"""Small modules of every kind, with shapes that they take, for tests of what counters make of them."""

import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import spectral_norm, weight_norm
from torchvision import models

from archcalc.analysis import Report, analyze
from archcalc.conventions import convention
from archcalc.pytorch.counters import COUNTERS
from archcalc.pytorch.trace import trace

Shapes = tuple[tuple[int, ...], ...]


class Call(nn.Module):
    """A function as a module that is not torch's."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


class MyConv(nn.Conv2d):
    """A subclass that computes alike."""


class MyReLU(nn.ReLU):
    """A subclass that computes alike."""


class OwnForward(nn.Conv2d):
    """A subclass that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight - self.weight.mean(), self.bias)


class OwnTransposed(nn.ConvTranspose2d):
    """A subclass that calls its base, and more."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * super().forward(x)


class OwnLinear(nn.Linear):
    """A subclass of which a product is counted and another not."""

    def forward(self, x: Tensor) -> Tensor:
        y = functional.linear(x, self.weight * 2, self.bias)
        return y @ y.transpose(-1, -2)


class OwnNorm(nn.BatchNorm2d):
    """A subclass that calls its base."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 1)


class Shared(nn.Module):
    """One block under two names, called under both; and a product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.BatchNorm1d(5))
        self.second = self.first
        self.other = nn.ModuleList([self.first])
        self.last = nn.Linear(5, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.second(self.first(x)))
        return torch.mm(y, y.T)


class Tied(nn.Module):
    """One weight in two layers, a bare parameter, a frozen one, a layer that does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 5)
        self.outer = nn.Linear(5, 5)
        self.outer.weight = self.inner.weight
        self.scale = nn.Parameter(torch.ones(5))
        self.frozen = nn.Linear(5, 5).requires_grad_(False)
        self.unused = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(self.outer(self.inner(x)) * self.scale)  # type: ignore[no-any-return]


class AttendTo(nn.Module):
    """Attention with inputs of its own for keys and values."""

    def __init__(self, weights: bool, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **options)
        self.weights = weights

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.attention(q, k, v, need_weights=self.weights)[0]  # type: ignore[no-any-return]


class Attend(nn.Module):
    """Attention with one input."""

    def __init__(self, weights: bool, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **options)
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=self.weights)[0]  # type: ignore[no-any-return]


class Trained(nn.Module):
    """A trained weight, of which PyTorch lays the other factor of a product out otherwise."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(sizes))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor @ x + torch.matmul(self.factor, x)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


def _method(a: Tensor, b: Tensor) -> Tensor:
    return a.matmul(b)


FUNCTIONS: dict[str, tuple[Callable[..., Any], Shapes]] = {
    "@": (_matmul, ((3, 4, 5), (5, 6))),
    "@ batched": (_matmul, ((3, 4, 5), (3, 5, 6))),
    "@ stretched": (_matmul, ((4, 5), (3, 5, 6))),
    "@ stretched 4-D": (_matmul, ((2, 1, 4, 5), (2, 3, 5, 6))),
    "@ vector": (_matmul, ((4, 5), (5,))),
    "@ vector strided": (lambda x, v: x.transpose(1, 2) @ v, ((3, 5, 4), (5,))),
    "@ vector 3-D": (_matmul, ((3, 4, 5), (5,))),
    "vector @": (_matmul, ((5,), (5, 6))),
    "vector @ 3-D": (_matmul, ((5,), (2, 5, 6))),
    "vector @ vector": (_matmul, ((5,), (5,))),
    "method": (_method, ((3, 4, 5), (5, 6))),
    "method stretched": (_method, ((4, 5), (3, 5, 6))),
    "method stretched 4-D": (_method, ((2, 1, 4, 5), (2, 3, 5, 6))),
    "method vector": (_method, ((4, 5), (5,))),
    "method vector 3-D": (_method, ((3, 4, 5), (5,))),
    "vector method": (_method, ((5,), (5, 6))),
    "vector method vector": (_method, ((5,), (5,))),
    "torch.matmul": (lambda a, b: torch.matmul(a, b).transpose(1, 2), ((3, 4, 5), (3, 5, 6))),
    "mm": (lambda a, b: torch.mm(a, b) + a.mm(b), ((4, 5), (5, 6))),
    "bmm": (lambda a, b: torch.bmm(a, b) * a.bmm(b), ((3, 4, 5), (3, 5, 6))),
    "addmm": (lambda a, b: torch.addmm(a, a, b).addmm(a, b), ((5, 5), (5, 5))),
    "addmm of a vector": (lambda v, a, b: torch.addmm(v, a, b), ((6,), (4, 5), (5, 6))),
    "baddbmm": (lambda a, b: torch.baddbmm(a, a, b), ((3, 5, 5), (3, 5, 5))),
    "Tensor.baddbmm": (lambda a, b: a.baddbmm(a, b), ((3, 5, 5), (3, 5, 5))),
    "mv": (lambda a, b: torch.mv(a, b) + a.mv(b), ((4, 5), (5,))),
    "dot": (lambda a, b: torch.dot(a, b), ((5,), (5,))),
    "einsum": (lambda a, b: torch.einsum("bij,bjk->bik", a, b), ((3, 4, 5), (3, 5, 6))),
    "einsum 2-D": (lambda a, b: torch.einsum("ij,kj->ik", a, b), ((4, 5), (6, 5))),
    "attention function": (
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v),
        ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)),
    ),
    "attention function 3-D": (
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v),
        ((2, 3, 4), (2, 5, 4), (2, 5, 4)),
    ),
    "F.linear": (lambda x, w: functional.linear(x, w), ((2, 3, 5), (6, 5))),
    "F.linear with bias": (lambda x, w, b: functional.linear(x, w, b), ((2, 3, 5), (6, 5), (6,))),
    "F.linear strided": (lambda x, w, b: functional.linear(x.transpose(1, 2), w, b), ((2, 5, 3), (6, 5), (6,))),
    "F.bilinear": (lambda x, y, w: functional.bilinear(x, y, w), ((2, 3), (2, 4), (6, 3, 4))),
    "F.conv1d": (lambda x, w: functional.conv1d(x, w), ((2, 4, 9), (6, 4, 3))),
    "F.conv2d": (lambda x, w, b: functional.conv2d(x, w, b, stride=2), ((2, 4, 9, 9), (6, 4, 3, 3), (6,))),
    "F.conv3d": (lambda x, w: functional.conv3d(x, w), ((2, 4, 5, 5, 5), (6, 4, 3, 3, 3))),
    "F.conv_transpose2d": (
        lambda x, w, b: functional.conv_transpose2d(x, w, b, stride=2),
        ((2, 4, 5, 5), (4, 6, 3, 3), (6,)),
    ),
    "F.relu": (lambda x: functional.relu(functional.relu(x), inplace=True), ((2, 3, 4),)),
    "relu otherwise": (lambda x: torch.relu(x).relu(), ((2, 3, 4),)),
    "F activations": (
        lambda x: functional.silu(functional.gelu(functional.elu(functional.relu6(functional.leaky_relu(x))))),
        ((2, 3, 4),),
    ),
    "F other activations": (
        lambda x: functional.hardswish(functional.mish(functional.selu(functional.softplus(functional.glu(x))))),
        ((2, 3, 4),),
    ),
    "F.prelu": (lambda x, w: functional.prelu(x, w), ((2, 3, 4), (3,))),
    "F.softmax": (lambda x: functional.softmax(x, -1), ((2, 3, 4),)),
    "softmax otherwise": (lambda x: torch.softmax(x, -1).softmax(0) + functional.log_softmax(x, 1), ((2, 3, 4),)),
    "F pools": (
        lambda x: functional.adaptive_max_pool2d(functional.avg_pool2d(functional.max_pool2d(x, 2), 2), 2),
        ((2, 3, 9, 9),),
    ),
    "F pools 1-D": (
        lambda x: functional.adaptive_max_pool1d(functional.avg_pool1d(functional.max_pool1d(x, 2), 2), 2),
        ((2, 3, 9),),
    ),
    "F pools 3-D": (
        lambda x: functional.adaptive_max_pool3d(functional.avg_pool3d(functional.max_pool3d(x, 2), 2), 2),
        ((2, 3, 9, 9, 9),),
    ),
    "F.adaptive_avg_pool2d": (
        lambda x: functional.adaptive_avg_pool2d(functional.adaptive_avg_pool2d(x, 3), 1),
        ((2, 3, 9, 9),),
    ),
    "F.adaptive_avg_pool1d": (
        lambda x: functional.adaptive_avg_pool1d(functional.adaptive_avg_pool1d(x, 3), 1),
        ((2, 3, 9),),
    ),
    "F.adaptive_avg_pool3d": (
        lambda x: functional.adaptive_avg_pool3d(functional.adaptive_avg_pool3d(x, 3), 1),
        ((2, 3, 5, 5, 5),),
    ),
    "F.interpolate": (
        lambda x: functional.interpolate(functional.interpolate(x, scale_factor=2), size=(5, 7), mode="bilinear"),
        ((2, 3, 4, 4),),
    ),
    "F norms": (
        lambda x: functional.layer_norm(functional.instance_norm(functional.group_norm(x, 1)), (4,)),
        ((2, 3, 4),),
    ),
    "F.normalize": (lambda x: functional.normalize(x), ((2, 3, 4),)),
    "operators": (lambda x, y: 2 * (x + y) * y - 1 + sum([x, y]), ((2, 3, 4), (2, 3, 4))),
    "torch.add": (lambda x, y: torch.mul(torch.add(x, y), 2.0), ((2, 3, 4), (4,))),
    "Tensor.add": (lambda x, y: x.mul(y).add(1).mul(2), ((2, 3, 4), (2, 3, 1))),
    "stretched add": (lambda x, y: torch.add(x, y), ((2, 3, 4), (3, 4))),
    "in place": (lambda x, y: x.clone().add_(y).mul_(2), ((2, 3, 4), (2, 3, 4))),
    "reductions": (lambda x: x.mean(1) + x.sum(1) + x.amax(1) + x.norm(dim=1), ((2, 3, 4),)),
    "moves": (lambda x: torch.cat([x, x.flip(1)], 1).permute(2, 0, 1).reshape(2, -1), ((2, 3, 4),)),
}


_ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "SELU", "Hardshrink", "Hardsigmoid"),
    *("Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish", "PReLU"),
    *("ReLU", "ReLU6", "RReLU", "Sigmoid", "SiLU", "Softplus"),
    *("Softshrink", "Softsign", "Tanh", "Tanhshrink", "Identity"),
)


def _layers() -> Iterator[tuple[str, nn.Module, Shapes]]:
    image, line, box = ((2, 4, 9, 9),), ((2, 4, 9),), ((2, 4, 6, 6, 6),)
    for rank, shapes in ((1, line), (2, image), (3, box)):
        conv, transposed = getattr(nn, f"Conv{rank}d"), getattr(nn, f"ConvTranspose{rank}d")
        for options in (
            {}, {"bias": False}, {"groups": 2}, {"dilation": 2}, {"stride": 2, "padding": 1}, {"padding": "same"},
            {"padding": "valid"}, {"padding": 1, "padding_mode": "reflect"},
        ):  # fmt: skip
            yield f"Conv{rank}d {options}", conv(4, 6, 3, **options), shapes
        yield f"Conv{rank}d same, even", conv(4, 6, 2, padding="same"), shapes
        yield f"Conv{rank}d depthwise", conv(4, 4, 3, groups=4), shapes
        for options in ({}, {"bias": False, "stride": 2}, {"groups": 2, "stride": 2, "output_padding": 1}):
            yield f"ConvTranspose{rank}d {options}", transposed(4, 6, 3, **options), shapes
        yield f"ConvTranspose{rank}d depthwise", transposed(4, 4, 3, groups=4), shapes
        for options in ({}, {"affine": False}, {"track_running_stats": False}):
            yield f"BatchNorm{rank}d {options}", getattr(nn, f"BatchNorm{rank}d")(4, **options), shapes
        for options in ({}, {"affine": True}):
            yield f"InstanceNorm{rank}d {options}", getattr(nn, f"InstanceNorm{rank}d")(4, **options), shapes
        for kind in ("MaxPool", "AvgPool"):
            yield f"{kind}{rank}d", getattr(nn, f"{kind}{rank}d")(3), shapes
            yield f"{kind}{rank}d of sizes", getattr(nn, f"{kind}{rank}d")((3,) * rank, 1, 1), shapes
        yield f"LPPool{rank}d", getattr(nn, f"LPPool{rank}d")(2, 3), shapes
        for kind in ("AdaptiveAvgPool", "AdaptiveMaxPool"):
            for size in (1, 3, 4):
                yield f"{kind}{rank}d {size}", getattr(nn, f"{kind}{rank}d")(size), shapes
        yield f"Upsample {rank}d", nn.Upsample(scale_factor=2), shapes
        yield f"Upsample {rank}d to a size", nn.Upsample(size=5), shapes
        yield f"ConstantPad{rank}d", getattr(nn, f"ConstantPad{rank}d")(1, 0.0), shapes
        yield f"ReflectionPad{rank}d", getattr(nn, f"ReflectionPad{rank}d")(1), shapes
    yield "Upsample bilinear", nn.Upsample(scale_factor=2, mode="bilinear"), image
    yield "UpsamplingNearest2d", nn.UpsamplingNearest2d(scale_factor=2), image
    yield "UpsamplingBilinear2d", nn.UpsamplingBilinear2d(size=(3, 5)), image
    yield "PixelShuffle", nn.PixelShuffle(2), image
    yield "PixelUnshuffle", nn.PixelUnshuffle(3), image
    yield "ChannelShuffle", nn.ChannelShuffle(2), image
    yield "FractionalMaxPool2d", nn.FractionalMaxPool2d(3, output_size=4), image
    yield "Softmax2d", nn.Softmax2d(), image
    yield "Flatten, Linear", nn.Sequential(nn.Flatten(), nn.Linear(324, 5)), image
    yield "Dropout2d", nn.Sequential(nn.Dropout2d(), nn.Dropout(), nn.AlphaDropout()), image
    yield "LocalResponseNorm", nn.LocalResponseNorm(5), image
    yield "LocalResponseNorm 1-D", nn.LocalResponseNorm(4), line
    yield "GroupNorm", nn.GroupNorm(2, 4), image
    yield "GroupNorm not affine", nn.GroupNorm(2, 4, affine=False), image
    yield "LayerNorm", nn.LayerNorm(9), image
    yield "LayerNorm not affine", nn.LayerNorm((9, 9), elementwise_affine=False), image
    yield "RMSNorm", nn.RMSNorm(9), image
    yield "subclass of Conv2d", nn.Sequential(MyConv(4, 6, 3), MyReLU()), image
    yield "subclasses with a forward", nn.Sequential(OwnForward(4, 6, 3), OwnTransposed(6, 4, 3), OwnNorm(4)), image
    yield "subclass of Linear with a forward", OwnLinear(9, 5), line
    for kind in _ACTIVATIONS:
        yield kind, getattr(nn, kind)(), image
    yield "GLU", nn.GLU(1), image
    yield "Threshold", nn.Threshold(0.5, 1.0), image
    yield "ReLU in place", nn.Sequential(nn.Identity(), nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)), image
    for kind in ("Softmax", "LogSoftmax", "Softmin"):
        yield kind, getattr(nn, kind)(1), image
    yield "Linear", nn.Linear(9, 5), line
    yield "Linear without bias", nn.Linear(9, 5, bias=False), line
    yield "Linear of a matrix", nn.Linear(9, 5), ((3, 9),)
    yield "Linear of a vector", nn.Linear(9, 5), ((9,),)
    yield "Linear 4-D", nn.Linear(9, 5), image
    yield "Linear strided", nn.Sequential(nn.Conv1d(4, 4, 1), Call(lambda x: x.transpose(1, 2)), nn.Linear(4, 5)), line
    yield "Linear strided 2", nn.Sequential(Call(lambda x: x.transpose(1, 2)), nn.Linear(4, 5)), line
    yield "Bilinear", nn.Bilinear(4, 3, 5), ((2, 4), (2, 3))
    for kind in ("RNN", "LSTM", "GRU"):
        for options in ({}, {"bias": False}, {"batch_first": True}, {"num_layers": 2, "bidirectional": True}):
            yield f"{kind} {options}", getattr(nn, kind)(5, 7, **options), ((3, 2, 5),)
        yield f"{kind}Cell", getattr(nn, f"{kind}Cell")(5, 7), ((3, 5),)
        yield f"{kind}Cell without bias", getattr(nn, f"{kind}Cell")(5, 7, bias=False), ((3, 5),)
        yield f"{kind} without a batch", getattr(nn, kind)(5, 7, num_layers=2, bidirectional=True), ((3, 5),)
    for normed in (weight_norm, spectral_norm):  # hooks compute the weight, which is no parameter
        yield normed.__name__, nn.Sequential(normed(nn.Conv2d(4, 6, 3)), normed(nn.Linear(7, 3))), image
        yield f"{normed.__name__}, transposed", nn.Sequential(normed(nn.ConvTranspose1d(4, 6, 3))), line
    yield "LSTM with projection", nn.LSTM(5, 7, proj_size=3), ((3, 2, 5),)
    yield "LSTM with projection 2", nn.LSTM(5, 7, num_layers=2, proj_size=3, batch_first=True), ((3, 2, 5),)
    for weights in (True, False):
        for options in ({}, {"batch_first": True}, {"bias": False}):
            yield f"attention, weights {weights} {options}", Attend(weights, **options), ((3, 2, 8),)
    yield "attention of three", nn.MultiheadAttention(8, 2), ((3, 2, 8), (4, 2, 8), (4, 2, 8))
    for options in ({}, {"batch_first": True}, {"activation": "gelu", "norm_first": True}):
        yield f"encoder {options}", nn.TransformerEncoderLayer(8, 2, 16, **options), ((3, 2, 8),)
    yield "frozen encoder", nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).requires_grad_(False), ((3, 2, 8),)
    yield "decoder", nn.TransformerDecoderLayer(8, 2, 16), ((3, 2, 8), (4, 2, 8))
    for sizes in ((6, 5), (5,), (2, 6, 5)):
        yield f"trained {sizes}", Trained(*sizes), ((2, 5, 7),)
        strided = nn.Sequential(Call(lambda x: x.transpose(1, 2)), Trained(*sizes))
        yield f"trained {sizes}, strided", strided, ((2, 7, 5),)
    yield "Shared", Shared(), ((3, 5),)
    yield "Tied", Tied(), ((3, 5),)


def _without_a_batch() -> Iterator[tuple[str, nn.Module, Shapes]]:
    """Layers on one image or one token, without the axis of a batch."""
    for rank in (1, 2, 3):
        shapes = ((4, *(9,) * rank),)
        for kind in ("Conv", "ConvTranspose"):
            layer = getattr(nn, f"{kind}{rank}d")
            yield f"{kind}{rank}d", layer(4, 6, 3, stride=2), shapes
            yield f"{kind}{rank}d grouped", layer(4, 6, 3, groups=2, bias=False), shapes
        for kind in ("MaxPool", "AvgPool"):
            yield f"{kind}{rank}d", getattr(nn, f"{kind}{rank}d")(2), shapes
            yield f"{kind}{rank}d in a tuple", getattr(nn, f"{kind}{rank}d")((2,) * rank), shapes
        for kind in ("AdaptiveMaxPool", "AdaptiveAvgPool"):
            yield f"{kind}{rank}d", getattr(nn, f"{kind}{rank}d")(3), shapes
            yield f"{kind}{rank}d to one", getattr(nn, f"{kind}{rank}d")(1), shapes
        yield f"InstanceNorm{rank}d", getattr(nn, f"InstanceNorm{rank}d")(4), shapes
        yield f"InstanceNorm{rank}d affine", getattr(nn, f"InstanceNorm{rank}d")(4, affine=True), shapes
    image = ((4, 9, 9),)
    yield "Conv2d reflect", nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), image
    yield "Conv2d padding=same", nn.Conv2d(4, 6, 2, padding="same"), image
    yield "network", nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2)), image
    yield "one layer twice", nn.Sequential(*[nn.Conv2d(4, 4, 1)] * 2), image
    yield "normed", nn.Sequential(weight_norm(nn.Conv2d(4, 6, 3)), spectral_norm(nn.ConvTranspose2d(6, 4, 3))), image
    for kind in ("RNN", "LSTM", "GRU"):
        yield f"{kind}Cell", getattr(nn, f"{kind}Cell")(5, 7), ((5,),)
        yield f"{kind} batch first", getattr(nn, kind)(5, 7, batch_first=True), ((3, 5),)


def _attention() -> Iterator[tuple[str, nn.Module, Shapes]]:
    """Attention to keys and values of other sizes, or with keys of its own."""
    for weights in (True, False):
        for further in ({}, {"bias": False}, {"batch_first": True}):
            for own in ({}, {"add_bias_kv": True}, {"add_zero_attn": True}):
                options: dict[str, Any] = {**further, **own}
                yield f"attention {weights} {options}", Attend(weights, **options), ((3, 2, 8),)
                for k, v in ((6, 4), (6, 8), (8, 6), (8, 5)):
                    keys = 3 if "batch_first" in further else 5
                    module = AttendTo(weights, kdim=k, vdim=v, **options)
                    yield f"attention {weights} {k} {v} {options}", module, ((3, 2, 8), (keys, 2, k), (keys, 2, v))
    yield "attention of attention", nn.Sequential(Attend(True, bias=False), Attend(False, bias=False)), ((3, 2, 8),)


def small() -> Iterator[tuple[str, nn.Module, tuple[Tensor, ...]]]:
    """Name, module in eval mode and inputs of each."""
    for name, module, shapes in _layers():
        yield name, module.eval(), tuple(torch.ones(shape) for shape in shapes)
    for name, (function, shapes) in FUNCTIONS.items():
        yield name, Call(function).eval(), tuple(torch.ones(shape) for shape in shapes)
    for name, module, shapes in _without_a_batch():
        yield f"{name} without a batch", module.eval(), tuple(torch.ones(shape) for shape in shapes)
    for name, module, shapes in _attention():
        yield name, module.eval(), tuple(torch.ones(shape) for shape in shapes)
    yield "Embedding", nn.Embedding(10, 4), (torch.ones(2, 3, dtype=torch.int64),)
    yield "EmbeddingBag", nn.EmbeddingBag(10, 4), (torch.ones(2, 3, dtype=torch.int64),)


@cache
def _traced() -> tuple[tuple[str, nn.Module, tuple[Tensor, ...], Report], ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple((*one, analyze(trace(*one[1:]))) for one in (*small(), *networks()))


def networks() -> Iterator[tuple[str, nn.Module, tuple[Tensor, ...]]]:
    """Networks of torchvision on two small images."""
    image = torch.ones(2, 3, 64, 64)
    for name in ("resnet18", "squeezenet1_1", "mobilenet_v3_small"):
        yield name, models.get_model(name, weights=None).eval(), (image,)
    swin = models.swin_transformer.SwinTransformer([4, 4], 24, [1, 1], [3, 3], [7, 7])
    yield "swin", swin.eval(), (image,)
    yield "vit", models.VisionTransformer(64, 16, 1, 2, 16, 32).eval(), (image,)


CONVOLUTIONS_REFUSED = r"(Conv\dd|network|one layer|normed|\w+Cell).* without a batch"
"""Names of what calflops and DeepSpeed refuse, and leave torch patched."""


def unexplained(tool: str, refused: str = "nothing") -> list[str]:
    """Modules of which the tool does not count exactly what its convention says, with both numbers.

    Those are not tried whose names match what the tool refuses.
    """
    rule, count = convention(tool), COUNTERS[tool]
    wrong = []
    for name, module, inputs, report in _traced():
        if re.match(refused, name):
            continue
        counted = count.here(module, inputs, {})  # functions cannot be sent to another process
        expected = sum(map(rule.count, report.rows))
        params = sum(map(rule.count_params, report.rows))
        if (counted.total, counted.params) != (expected, params):
            wrong.append(f"{name}: {counted.total} MACs and {counted.params} parameters, not {expected} and {params}")
    return wrong


def three_counts(tool: str, module: nn.Module, *inputs: Tensor) -> tuple[int, int, int]:
    """MACs of a module as archcalc counts them, as PyTorch counts those it executes, and what a tool says."""
    module.eval()
    ours = analyze(trace(module, inputs)).total.macs
    assert isinstance(ours, int)
    return ours, COUNTERS["torch"](module, inputs).total, COUNTERS[tool].here(module, inputs, {}).total
