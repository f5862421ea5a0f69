"""Traces of all sorts of modules; the truth is torch itself, FlopCounterMode, or arithmetic written beside the test."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812
from torch.nn.utils import parametrizations  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import archcalc  # noqa: E402
from archcalc import Report, Row, analyze, trace  # noqa: E402
from archcalc.errors import InputError, ShapeError, SpecError, TraceError  # noqa: E402
from archcalc.extents import Shape  # noqa: E402
from archcalc.layers import Layer  # noqa: E402
from archcalc.layers.base import elementwise  # noqa: E402
from archcalc.layers.operation import Elementwise  # noqa: E402
from archcalc.nest import Nest  # noqa: E402
from archcalc.pytorch import operations  # noqa: E402


def traced(module: nn.Module, inputs: Any, **kwargs: Any) -> Report:
    """The report of a trace that has every parameter and buffer of the module."""
    report = analyze(trace(module, inputs, **kwargs))
    assert report.total.params == sum(parameter.numel() for parameter in module.parameters())
    assert report.total.buffers == sum(buffer.numel() for buffer in module.buffers())
    return report


def flop_counter_macs(module: nn.Module, *inputs: Any, **kwargs: Any) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        copy.deepcopy(module).eval().to("meta")(*inputs, **kwargs)
    return int(counter.get_total_flops()) // 2


def meta(*shape: int, dtype: Any = torch.float32) -> Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


class Calls(nn.Module):
    """Runs a function of tensors, with modules or parameters it is given."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.function(self, *inputs, **kwargs)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


class Net(nn.Module):
    """A bit of everything that a module may hold: buffers, plain attributes, a list, a hook, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 4)
        self.scale = parameter(8, 1, 1)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.seen: list[int] = []
        self.notes = {"calls": 0, "last": torch.zeros(2)}
        self.cache: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(self.seen))
        self.notes["calls"] += 1
        self.steps.add_(1)
        y = F.relu(self.bn(self.conv(x)) * self.scale)
        self.cache = y
        return self.fc(self.drop(y).mean((2, 3)))


# The module is as it was


def picture(module: nn.Module) -> dict[str, Any]:
    """Everything that a module holds, by value."""
    found: dict[str, Any] = {
        "state": {key: (value.clone(), value._version) for key, value in module.state_dict().items()}
    }
    for path, part in module.named_modules():
        own = {key: value for key, value in vars(part).items() if key not in ("_modules", "_parameters", "_buffers")}
        found[path] = copy.deepcopy({key: value for key, value in own.items() if "hook" not in key})
        found[f"{path} hooks"] = {key: list(value.items()) for key, value in own.items() if "hooks" in key and value}
        found[f"{path} parts"] = {key: id(one) for key, one in part._modules.items()}
        for key, one in (*part._parameters.items(), *part._buffers.items()):
            grad = None if one is None or one.grad is None else one.grad.clone()
            found[f"{path}.{key}"] = (
                id(one),
                one is not None and one.requires_grad,
                grad,
                one is not None and one.device,
            )
    return found


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def lived() -> Net:
    """A module that has been trained a step and is in no uniform mode."""
    torch.manual_seed(1)
    module = Net()
    module(torch.randn(2, 3, 8, 8)).sum().backward()
    module.bn.eval()
    module.fc.weight.requires_grad_(False)
    return module


def test_module_is_as_it_was() -> None:
    module = lived()
    module.cache = None
    before, random = picture(module), torch.get_rng_state()
    trace(module, (2, 3, 8, 8))
    assert same(picture(module), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert module.training
    assert not module.bn.training


def test_module_is_as_it_was_after_forward_raised() -> None:
    module = lived()
    module.cache = None
    before, random = picture(module), torch.get_rng_state()
    with pytest.raises(TraceError):
        trace(module, (2, 5, 8, 8))
    assert same(picture(module), before)
    assert torch.equal(torch.get_rng_state(), random)


def test_module_with_a_cached_activation_can_be_traced() -> None:
    module = lived()
    assert module.cache is not None
    assert module.cache.grad_fn is not None
    kept = module.cache
    trace(module, (2, 3, 8, 8))
    assert module.cache is kept


class NeedsData(nn.Module):
    """Cannot run on the meta device, draws random numbers, and writes what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.total: Tensor
        self.register_buffer("total", torch.zeros(4))
        self.offset = torch.zeros(4)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x + torch.rand(4))
        self.total.add_(y.sum(0))
        self.offset.add_(1)
        self.seen.append(y)
        return y if float(y.abs().sum()) >= 0 else x


def test_module_is_as_it_was_where_it_needs_data() -> None:
    module = NeedsData()
    before, random = picture(module), torch.get_rng_state()
    with pytest.warns(UserWarning, match="traced with real tensors"):
        report = traced(module, (2, 4))
    assert same(picture(module), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert report["fc"].macs == 2 * 4 * 4


class WritesParameters(nn.Module):
    """Overwrites a parameter in forward, and needs data."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = parameter(4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.5)
        return x * self.weight if float(x.sum()) < 1e9 else x


def test_parameter_written_in_forward_is_as_it_was() -> None:
    module = WritesParameters()
    before = module.weight.detach().clone()
    with pytest.warns(UserWarning, match="real tensors"):
        traced(module, (2, 4))
    assert torch.equal(module.weight, before)


def test_two_traces_are_equal() -> None:
    module = lived()
    first, second = trace(module, (2, 3, 8, 8)), trace(module, (2, 3, 8, 8))
    assert first == second
    assert [node.name for node in first] == [node.name for node in second]


def test_threads_trace_the_same_module_at_once() -> None:
    module = lived()
    module.cache = None
    before = picture(module)
    expected = trace(module, (2, 3, 8, 8))
    found: list[Any] = []

    def run() -> None:
        for _ in range(4):
            try:
                found.append(trace(module, (2, 3, 8, 8)))
            except Exception as error:
                found.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert all(network == expected for network in found)
    assert same(picture(module), before)


def test_threads_trace_on_real_tensors_at_once() -> None:
    module = NeedsData()
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(trace(module, (2, 4)))
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    with pytest.warns(UserWarning, match="real tensors"):
        expected = trace(module, (2, 4))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [expected] * 4
    assert torch.backends.mha.get_fastpath_enabled()


def test_modules_own_forward_hook_still_works() -> None:
    calls: list[tuple[int, ...]] = []
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU())

    def doubled(part: nn.Module, args: Any, output: Tensor) -> Tensor:
        calls.append(tuple(output.shape))
        return torch.cat([output, output], 1)

    handle = module[0].register_forward_hook(doubled)
    report = traced(module, (2, 4))
    assert report.output == (2, 6)
    assert calls == [(2, 3)]
    assert module(torch.zeros(1, 4)).shape == (1, 6)
    assert len(module[0]._forward_hooks) == 1
    assert report["0"].output == (2, 3)
    assert [row.kind for row in report] == ["Input", "Linear", "Concat", "ReLU"]
    handle.remove()


def test_modules_own_forward_pre_hook_still_works() -> None:
    module = nn.Sequential(nn.Linear(4, 3))
    module[0].register_forward_pre_hook(lambda part, args: (args[0] * 2,))
    report = traced(module, (2, 4))
    assert report.total.macs == 2 * 4 * 3
    assert [row.kind for row in report if row.kind != "Constant"] == ["Input", "mul", "Linear"]
    assert report["0"].node.inputs == ("mul",)


def test_no_gradient_graph_and_no_reference_to_the_module_is_left() -> None:
    import gc
    import weakref

    module = lived()
    net = trace(module, (2, 3, 8, 8))
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None
    assert len(net) > 3


# Parameters


def test_bare_parameter_is_a_row_that_its_users_take() -> None:
    module = Calls(lambda self, x: x * self.gamma, gamma=parameter(4))
    report = traced(module, (2, 4))
    assert report["gamma"].params == 4
    assert report["gamma"].kind == "Parameter"
    [product] = [row for row in report if row.kind == "mul"]
    assert product.node.inputs == ("input", "gamma")
    assert dict(product.ledger) == {"mul": 8}


def test_bare_parameter_of_a_submodule_lies_in_its_block() -> None:
    module = nn.Sequential(nn.Identity(), Calls(lambda self, x: x + self.offset, offset=parameter(4)))
    report = traced(module, (2, 4))
    assert report["1.offset"].params == 4
    assert report["1.offset"].node.blocks == ("1",)


def test_module_called_twice_holds_its_parameters_once_and_costs_twice() -> None:
    module = Calls(lambda self, x: self.fc(self.fc(x)), fc=nn.Linear(4, 4))
    report = traced(module, (2, 4))
    assert report.total.macs == 2 * (2 * 4 * 4)
    assert [row.params for row in report if row.kind == "Linear"] == [20, 0]
    assert [row.name for row in report if row.kind == "Linear"] == ["fc", "fc:2"]
    assert [held.counted_by for held in report["fc:2"].node.held] == ["fc", "fc"]


def test_module_under_two_names_holds_its_parameters_once() -> None:
    fc = nn.Linear(4, 4)
    report = traced(nn.Sequential(fc, nn.ReLU(), fc), (2, 4))
    assert report.total.params == 20
    assert report.total.macs == 64


def test_tied_weights_count_once() -> None:
    embedding, head = nn.Embedding(10, 4), nn.Linear(4, 10)
    head.weight = embedding.weight
    report = traced(nn.Sequential(embedding, head), torch.tensor([[1, 2, 3]]))
    assert report.total.params == 10 * 4 + 10
    assert report["0"].params == 40
    assert report["1"].params == 10
    assert report["1"].macs == 3 * 4 * 10
    assert next(held.counted_by for held in report["1"].node.held if held.name == "weight") == "0"


def test_tied_weight_in_a_functional_call_counts_once() -> None:
    module = Calls(lambda self, ids: F.linear(self.table(ids), self.table.weight), table=nn.Embedding(10, 4))
    report = traced(module, torch.tensor([[1, 2, 3]]))
    assert report.total.params == 40
    assert report.total.macs == 3 * 4 * 10


def test_unused_module_is_a_row_marked_unused() -> None:
    module = Calls(lambda self, x: self.fc(x), fc=nn.Linear(4, 4), spare=nn.BatchNorm1d(4))
    report = traced(module, (2, 4))
    assert report["spare"].kind == "BatchNorm1d, unused"
    assert (report["spare"].params, report["spare"].buffers, report["spare"].macs) == (8, 9, 0)
    assert report.output == (2, 4)


def test_unused_bare_parameters_are_a_row() -> None:
    module = Calls(lambda self, x: x + 1, spare=parameter(3, 5))
    report = traced(module, (2, 4))
    [row] = [row for row in report if row.params]
    assert row.params == 15
    assert row.kind.endswith("unused")


def test_frozen_parameters_are_told_apart() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    module[0].requires_grad_(False)
    assert module[1].bias is not None
    module[1].bias.requires_grad_(False)
    report = traced(module, (2, 4))
    assert (report["0"].frozen, report["1"].frozen, report.total.frozen) == (40, 2, 42)


def test_frozen_bare_and_unused_parameters() -> None:
    module = Calls(lambda self, x: x * self.gamma, gamma=parameter(4), spare=nn.Linear(3, 2))
    module.requires_grad_(False)
    assert traced(module, (2, 4)).total.frozen == 4 + 8


def test_buffers_are_apart() -> None:
    module = Calls(lambda self, x: x + self.offset)
    module.register_buffer("offset", torch.zeros(4))
    module.register_buffer("mask", torch.zeros(4, 4), persistent=False)
    report = traced(module, (2, 4))
    assert (report.total.params, report.total.buffers) == (0, 20)
    assert report["offset"].kind == "Buffer"


def test_weight_norm() -> None:
    module = parametrizations.weight_norm(nn.Linear(4, 3))
    report = traced(module, (2, 4))
    assert report.total.macs == 2 * 4 * 3
    assert report.total.params == 3 * 4 + 3 + 3
    assert report.uncounted == ()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weight_norm_of_old() -> None:
    module = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    report = traced(module, (2, 3, 8, 8))
    assert report.total.macs == 2 * 4 * 6 * 6 * 3 * 9


class Symmetric(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w.triu() + w.triu(1).transpose(-1, -2)


def test_parametrization_is_rows_and_the_layer_uses_them() -> None:
    from torch.nn.utils.parametrize import register_parametrization

    module = nn.Sequential(nn.Linear(4, 4))
    register_parametrization(module[0], "weight", Symmetric())
    report = traced(module, (2, 4))
    assert report.total.macs == 2 * 4 * 4
    assert report.total.params == 20
    assert any("parametrizations" in row.name for row in report)


def test_spectral_norm() -> None:
    report = traced(parametrizations.spectral_norm(nn.Linear(4, 3)), (2, 4))
    # 2 rows by 4·3; in eval mode sigma = u·(W v): 3·4 + 3
    assert report.total.macs == 2 * 4 * 3 + 3 * 4 + 3


# Functional calls and loose operations


def conv(self: Any, x: Tensor) -> Tensor:
    return F.conv2d(x, self.weight, self.bias, stride=2, padding=1)


LOOSE: list[tuple[str, nn.Module, list[tuple[int, ...]], int]] = [
    # 2 images · 8 channels · 4·4 outputs · 3·3·3 products
    ("conv2d", Calls(conv, weight=parameter(8, 3, 3, 3), bias=parameter(8)), [(2, 3, 8, 8)], 2 * 8 * 4 * 4 * 27),
    ("conv1d", Calls(lambda s, x: F.conv1d(x, s.w, groups=2), w=parameter(4, 2, 3)), [(2, 4, 9)], 2 * 4 * 7 * 2 * 3),
    ("conv3d", Calls(lambda s, x: F.conv3d(x, s.w), w=parameter(4, 2, 3, 2, 1)), [(1, 2, 5, 5, 5)], 4 * 3 * 4 * 5 * 12),
    # every one of 5·5 inputs meets 3 · 3·3 weights
    (
        "conv_transpose2d",
        Calls(lambda s, x: F.conv_transpose2d(x, s.w, stride=2), w=parameter(4, 3, 3, 3)),
        [(1, 4, 5, 5)],
        4 * 5 * 5 * 3 * 9,
    ),
    ("linear", Calls(lambda s, x: F.linear(x, s.w, s.b), w=parameter(5, 4), b=parameter(5)), [(2, 4)], 2 * 4 * 5),
    ("linear, 3 axes", Calls(lambda s, x: F.linear(x, s.w), w=parameter(5, 4)), [(2, 7, 4)], 2 * 7 * 4 * 5),
    (
        "linear, 3 axes and bias",
        Calls(lambda s, x: F.linear(x, s.w, s.b), w=parameter(5, 4), b=parameter(5)),
        [(2, 7, 4)],
        280,
    ),
    ("@", Calls(lambda s, a, b: a @ b), [(3, 4), (4, 5)], 60),
    ("@ with a batch", Calls(lambda s, a, b: a @ b), [(2, 6, 3, 4), (2, 6, 4, 5)], 12 * 60),
    ("@ with a vector", Calls(lambda s, a, b: a @ b), [(3, 4), (4,)], 12),
    ("@ of vectors", Calls(lambda s, a, b: a @ b), [(4,), (4,)], 4),
    ("matmul broadcasts", Calls(lambda s, a, b: torch.matmul(a, b)), [(6, 3, 4), (2, 1, 4, 5)], 12 * 60),
    ("bmm", Calls(lambda s, a, b: torch.bmm(a, b)), [(6, 3, 4), (6, 4, 5)], 6 * 60),
    ("baddbmm", Calls(lambda s, c, a, b: torch.baddbmm(c, a, b)), [(6, 3, 5), (6, 3, 4), (6, 4, 5)], 6 * 60),
    ("addmm", Calls(lambda s, c, a, b: torch.addmm(c, a, b)), [(5,), (3, 4), (4, 5)], 60),
    ("addmv", Calls(lambda s, c, a, b: torch.addmv(c, a, b)), [(3,), (3, 4), (4,)], 12),
    (
        "einsum",
        Calls(lambda s, a, b: torch.einsum("bhqd,bhkd->bhqk", a, b)),
        [(2, 3, 4, 5), (2, 3, 6, 5)],
        2 * 3 * 4 * 6 * 5,
    ),
    (
        "einsum, relative positions",
        Calls(lambda s, a, b: torch.einsum("bythwc,tkc->bythwk", a, b)),
        [(1, 2, 3, 4, 5, 6), (3, 7, 6)],
        2 * 3 * 4 * 5 * 7 * 6,
    ),
    # 2·3 heads, 4 queries, 6 keys: q·k is 5 products, weights·v is 5
    (
        "scaled_dot_product_attention",
        Calls(lambda s, q, k, v: F.scaled_dot_product_attention(q, k, v)),
        [(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5)],
        2 * 3 * 4 * 6 * (5 + 5),
    ),
    (
        "causal attention",
        Calls(lambda s, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
        [(2, 3, 6, 5)] * 3,
        2 * 3 * 6 * 6 * (5 + 5),
    ),
]


@pytest.mark.parametrize(("module", "shapes", "macs"), [case[1:] for case in LOOSE], ids=[case[0] for case in LOOSE])
def test_loose_operation(module: nn.Module, shapes: list[tuple[int, ...]], macs: int) -> None:
    report = traced(module, shapes)
    assert report.total.macs == macs
    assert report.uncounted == ()
    inputs = [meta(*shape) for shape in shapes]
    assert report.output == tuple(module.to("meta")(*inputs).shape)
    if "vector" not in str(shapes) and all(len(shape) > 1 for shape in shapes[-2:]):
        assert flop_counter_macs(module, *inputs) == macs
    else:  # FlopCounterMode has no rule for mv and dot
        assert flop_counter_macs(module, *inputs) in (0, macs)


def test_functional_layers_cost_what_modules_cost() -> None:
    own = Calls(conv, weight=parameter(8, 3, 3, 3), bias=parameter(8))
    module = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    loose, layer = traced(own, (2, 3, 8, 8)).total, traced(module, (2, 3, 8, 8)).total
    assert dict(loose.ledger) == dict(layer.ledger)
    assert (loose.weights, loose.biases) == (layer.weights, layer.biases)
    assert loose.activations == layer.activations


def test_functional_linear_costs_what_the_module_costs() -> None:
    own = Calls(lambda self, x: F.linear(x, self.weight, self.bias), weight=parameter(5, 4), bias=parameter(5))
    for shape in ((2, 4), (2, 7, 4)):
        loose, layer = traced(own, shape).total, traced(nn.Linear(4, 5), shape).total
        assert loose.macs == layer.macs
        assert sum(loose.ledger.values()) == sum(layer.ledger.values())


def test_loose_operations_lie_under_the_module_that_calls_them() -> None:
    module = nn.Sequential(nn.ReLU(), Calls(lambda s, x: x @ s.w, w=parameter(4, 4)))
    report = traced(module, (2, 4))
    assert report["1.mm"].node.blocks == ("1",)
    assert report["1.mm"].node.inputs == ("0", "1.w")


# Attention and transformers


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("weights", [True, False])
def test_multihead_attention(batch_first: bool, mode: str, weights: bool) -> None:
    module = nn.MultiheadAttention(8, 2, batch_first=batch_first).train(mode == "train")
    shape = (2, 5, 8) if batch_first else (5, 2, 8)
    report = traced(module, [shape] * 3, need_weights=weights)
    # q, k, v: 3·(2·5)·8·8; scores and mix: 2 images·2 heads·5·5·4 each; output: (2·5)·8·8
    assert report.total.macs == 3 * 10 * 64 + 2 * (2 * 2 * 5 * 5 * 4) + 10 * 64
    assert report.uncounted == ()
    x = meta(*shape)
    counter = FlopCounterMode(display=False)
    with counter:  # in training mode torch takes the path whose products FlopCounterMode sees
        nn.MultiheadAttention(8, 2, batch_first=batch_first, device="meta")(x, x, x, need_weights=weights)
    assert report.total.macs * 2 == counter.get_total_flops()


def test_self_attention_by_one_tensor_is_not_two_inputs() -> None:
    module = Calls(lambda s, x: s.mha(x, x, x)[0], mha=nn.MultiheadAttention(8, 2, batch_first=True))
    report = traced(module, (2, 5, 8))
    assert report.total.macs == 3 * 10 * 64 + 2 * (2 * 2 * 5 * 5 * 4) + 10 * 64
    assert report.output == (2, 5, 8)


def test_cross_attention_with_other_widths() -> None:
    module = nn.MultiheadAttention(8, 2, kdim=6, vdim=10, batch_first=True)
    report = traced(module, [(2, 3, 8), (2, 5, 6), (2, 5, 10)])
    # q: 2·3·8·8, k: 2·5·6·8, v: 2·5·10·8; scores and mix 2·2·3·5·4 each; output 2·3·8·8
    assert report.total.macs == 6 * 64 + 10 * 48 + 10 * 80 + 2 * (2 * 2 * 3 * 5 * 4) + 6 * 64


def encoder_macs(n: int, length: int, d: int, hidden: int, memory: int | None = None) -> int:
    """A layer by hand: 4 projections, 2 products of n·length·keys·d, and the two halves of the MLP."""
    keys = length if memory is None else memory
    attention = 2 * n * length * d * d + 2 * n * keys * d * d + 2 * n * length * keys * d
    return attention + (2 * n * length * d * hidden if hidden else 0)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer_encoder_layer(norm_first: bool, batch_first: bool) -> None:
    module = nn.TransformerEncoderLayer(8, 2, 16, norm_first=norm_first, batch_first=batch_first).eval()
    shape = (2, 5, 8) if batch_first else (5, 2, 8)
    report = traced(module, shape)
    assert report.total.macs == encoder_macs(2, 5, 8, 16)
    assert report.uncounted == ()
    counter = FlopCounterMode(display=False)
    with counter:
        copy.deepcopy(module).train().to("meta")(meta(*shape))
    assert report.total.macs * 2 == counter.get_total_flops()


def test_flop_counter_mode_is_blind_to_the_fast_path_and_archcalc_is_not() -> None:
    module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(torch.zeros(2, 5, 8))
    assert counter.get_total_flops() < 2 * encoder_macs(2, 5, 8, 16)
    assert traced(module, (2, 5, 8)).total.macs == encoder_macs(2, 5, 8, 16)


def test_transformer_encoder() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    report = traced(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), (2, 5, 8))
    assert report.total.macs == 3 * encoder_macs(2, 5, 8, 16)


def test_transformer_encoder_with_masks() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with pytest.warns(
        UserWarning, match="real tensors"
    ):  # torch makes a nested tensor, for which it must look at the mask
        report = traced(nn.TransformerEncoder(layer, 2), (2, 5, 8), src_key_padding_mask=padding)
    assert report.total.macs == 2 * encoder_macs(2, 5, 8, 16)


def test_transformer_decoder() -> None:
    layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    report = traced(nn.TransformerDecoder(layer, 2), [(2, 3, 8), (2, 5, 8)])
    one = encoder_macs(2, 3, 8, 0) + encoder_macs(2, 3, 8, 16, memory=5)
    assert report.total.macs == 2 * one


def test_transformer() -> None:
    module = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    report = traced(module, [(2, 5, 8), (2, 3, 8)])
    decoder = encoder_macs(2, 3, 8, 0) + encoder_macs(2, 3, 8, 16, memory=5)
    assert report.total.macs == encoder_macs(2, 5, 8, 16) + decoder


# Recurrent layers


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_layer(
    kind: type[nn.RNNBase], gates: int, layers: int, bidirectional: bool, batch_first: bool
) -> None:
    module = kind(3, 4, layers, bidirectional=bidirectional, batch_first=batch_first)  # type: ignore[arg-type]
    report = traced(module, (2, 5, 3) if batch_first else (5, 2, 3))
    ways = 2 if bidirectional else 1
    # each of 2·5 steps and ways: gates·4 outputs of (inputs + 4 hidden)
    macs = sum(2 * 5 * ways * gates * 4 * ((4 * ways if layer else 3) + 4) for layer in range(layers))
    assert report.total.macs == macs
    assert report.uncounted == ()


def test_lstm_with_projection() -> None:
    report = traced(nn.LSTM(3, 8, proj_size=2), (5, 2, 3))
    # 2·5 steps: 4·8 outputs of (3 + 2) inputs, projected from 8 to 2
    assert report.total.macs == 10 * (4 * 8 * 5 + 8 * 2)
    assert report.output == (5, 2, 2)


def test_flop_counter_mode_and_recurrent_layers() -> None:
    module = nn.LSTM(3, 4)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(torch.zeros(5, 2, 3))
    assert traced(module, (5, 2, 3)).total.macs == 10 * 16 * 7
    assert counter.get_total_flops() in (0, 2 * 10 * 16 * 7)


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNNCell, 1), (nn.GRUCell, 3), (nn.LSTMCell, 4)])
def test_recurrent_cell(kind: type[nn.RNNCellBase], gates: int) -> None:
    module = kind(3, 4)  # type: ignore[call-arg]
    report = traced(module, (2, 3))
    assert report.total.macs == 2 * gates * 4 * (3 + 4)
    assert report.uncounted == ()


def test_states_of_a_recurrent_layer_flow_on() -> None:
    module = Calls(lambda s, x: s.head(s.rnn(x)[1][0][-1]), rnn=nn.LSTM(3, 4, 2), head=nn.Linear(4, 7))
    report = traced(module, (5, 2, 3))
    assert report.output == (2, 7)
    assert report["head"].macs == 2 * 4 * 7


def test_recurrent_layer_with_states_given() -> None:
    module = Calls(lambda s, x, h: s.rnn(x, h)[0], rnn=nn.GRU(3, 4))
    report = traced(module, [(5, 2, 3), (1, 2, 4)])
    assert report.total.macs == 10 * 12 * 7


def test_cell_in_a_loop_counts_every_step() -> None:
    def unroll(self: Any, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], 4)
        for step in x:
            h = self.cell(step, h)
        return h

    report = traced(Calls(unroll, cell=nn.GRUCell(3, 4)), (5, 2, 3))
    assert report.total.macs == 5 * 2 * 12 * 7


# Modules that are layers


LAYERS: list[tuple[nn.Module, tuple[int, ...], int]] = [
    (nn.Conv1d(4, 6, 3, groups=2, padding="same"), (2, 4, 9), 2 * 6 * 9 * 2 * 3),
    (nn.Conv3d(2, 4, 3, dilation=2), (1, 2, 7, 7, 7), 4 * 27 * 2 * 27),
    (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (1, 3, 8, 8), 4 * 64 * 27),
    (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (1, 3, 8, 8), 4 * 64 * 27),
    (nn.ConvTranspose1d(4, 3, 3, stride=2, output_padding=1), (2, 4, 5), 2 * 4 * 5 * 3 * 3),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2), (1, 4, 5, 5), 4 * 25 * 3 * 9),
    (nn.ConvTranspose3d(2, 3, 2), (1, 2, 3, 3, 3), 2 * 27 * 3 * 8),
    (nn.Linear(4, 5), (4,), 20),
    (nn.Linear(4, 5), (2, 3, 4), 120),
]


@pytest.mark.parametrize(("module", "shape", "macs"), LAYERS, ids=[str(case[0]) for case in LAYERS])
def test_layer(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    report = traced(module, shape)
    assert report.total.macs == macs == flop_counter_macs(module, meta(*shape))
    assert [row.kind for row in report] == ["Input", type(module).__name__]
    assert report.output == tuple(module.to("meta")(meta(*shape)).shape)


def test_bilinear() -> None:
    report = traced(nn.Bilinear(3, 4, 5), [(2, 3), (2, 4)])
    # x1·W: 2·5·4 outputs of 3 products; that by x2: 2·5 outputs of 4
    assert report.total.macs == 2 * 5 * 4 * 3 + 2 * 5 * 4
    assert report.uncounted == ()


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.BatchNorm1d(4), (2, 4)),
        (nn.BatchNorm1d(4), (2, 4, 5)),
        (nn.BatchNorm3d(4), (2, 4, 5, 5, 5)),
        (nn.LayerNorm(6), (2, 3, 6)),
        (nn.GroupNorm(2, 4), (2, 4, 5, 5)),
        (nn.InstanceNorm2d(4, affine=True), (2, 4, 5, 5)),
        (nn.InstanceNorm2d(4, track_running_stats=True), (2, 4, 5, 5)),
        (nn.RMSNorm(6), (2, 3, 6)),
        (nn.LocalResponseNorm(3), (2, 4, 5, 5)),
        (nn.MaxPool1d(2), (2, 4, 8)),
        (nn.MaxPool3d(2), (2, 4, 8, 8, 8)),
        (nn.AvgPool2d(3, 2, 1), (2, 4, 9, 9)),
        (nn.AdaptiveAvgPool2d((None, 3)), (2, 4, 9, 9)),
        (nn.AdaptiveMaxPool1d(3), (2, 4, 9)),
        (nn.LPPool2d(2, 2), (2, 4, 8, 8)),
        (nn.FractionalMaxPool2d(2, output_size=3), (2, 4, 8, 8)),
        (nn.FractionalMaxPool3d(2, output_ratio=0.5), (2, 4, 8, 8, 8)),
        (nn.PReLU(4), (2, 4, 5, 5)),
        (nn.GLU(1), (2, 4, 5)),
        (nn.Softmax(-1), (2, 4)),
        (nn.LogSoftmax(1), (2, 4)),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 4, 5, 5)),
        (nn.Upsample(size=(7, 9)), (1, 4, 5, 5)),
        (nn.PixelShuffle(2), (1, 4, 5, 5)),
        (nn.ZeroPad2d((1, 2, 0, 1)), (1, 4, 5, 5)),
        (nn.ReflectionPad1d(2), (1, 4, 5)),
        (nn.Flatten(), (2, 4, 5, 5)),
        (nn.Unflatten(1, (2, 2)), (2, 4)),
        (nn.Dropout(0.3), (2, 4)),
        (nn.Identity(), (2, 4)),
        (nn.GELU(), (2, 4)),
        (nn.Softmax2d(), (1, 3, 4, 4)),
        (nn.ChannelShuffle(2), (1, 4, 5, 5)),
        (nn.Unfold(2), (1, 2, 4, 4)),
        (nn.CosineSimilarity(), (2, 4)),
    ],
    ids=lambda value: str(value) if isinstance(value, nn.Module) else "",
)
def test_layer_without_products_is_counted_and_has_torchs_output(module: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = [shape, shape] if isinstance(module, nn.CosineSimilarity) else [shape]
    report = traced(module, inputs)
    assert report.uncounted == ()
    assert report.total.macs == 0
    assert report.output == tuple(module.eval()(*[torch.zeros(one) for one in inputs]).shape)


def test_embedding_and_bag() -> None:
    ids = torch.tensor([[1, 2, 3], [3, 4, 5]])
    report = traced(nn.Embedding(10, 4), ids)
    assert (report.total.params, report.total.macs, report.output) == (40, 0, (2, 3, 4))
    bag = traced(nn.EmbeddingBag(10, 4, mode="sum"), ids)
    assert (bag.total.params, bag.output, bag.uncounted) == (40, (2, 4), ())
    offsets = traced(nn.EmbeddingBag(10, 4), [torch.tensor([1, 2, 3, 4]), torch.tensor([0, 2])])
    assert (offsets.total.params, offsets.output) == (40, (2, 4))


class PlainSubclass(nn.Conv2d):
    """As torch's, made otherwise."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1)


class Standardized(nn.Conv2d):
    """Weight standardization: forward does something else first."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


class Doubled(nn.Linear):
    """A forward that multiplies twice."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + F.linear(x, self.weight)


def test_plain_subclass_is_its_base() -> None:
    report = traced(PlainSubclass(4), (1, 4, 8, 8))
    assert [row.kind for row in report] == ["Input", "Conv2d"]
    assert report.total.macs == 4 * 64 * 36


def test_subclass_with_its_own_forward_is_what_it_runs() -> None:
    report = traced(Standardized(4, 4, 3, padding=1), (1, 4, 8, 8))
    assert report.total.macs == 4 * 64 * 36
    assert {"mean", "sub"} <= {row.kind for row in report}
    assert traced(Doubled(4, 3), (2, 4)).total.macs == 2 * (2 * 4 * 3)


def test_forward_replaced_on_the_instance_is_what_runs() -> None:
    module = nn.Linear(4, 4)
    module.forward = lambda x: x @ module.weight @ module.weight  # type: ignore[assignment, method-assign]
    assert analyze(trace(nn.Sequential(module), (2, 4))).total.macs == 2 * (2 * 4 * 4)


# Inputs, outputs, control flow


@dataclass
class Output:
    logits: Tensor
    extra: dict[str, Any]
    loss: Tensor | None = None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x, y: (x, y),
        lambda x, y: {"out": x, "more": {"deep": [y]}},
        lambda x, y: Output(x, {"y": (y,)}),
        lambda x, y: [{"x": x}, (None, y, "text", 3)],
        lambda x, y: torch.return_types.max((x, y)),
    ],
)
def test_outputs_of_all_sorts(wrap: Callable[[Tensor, Tensor], Any]) -> None:
    module = Calls(lambda s, x: wrap(s.a(x), s.b(x)), a=nn.Linear(4, 5), b=nn.Linear(4, 6))
    net = trace(module, (2, 4))
    assert net.outputs == ("a", "b")
    assert analyze(net).output == (2, 5)


def test_nested_output_of_a_submodule_keeps_its_edges() -> None:
    inner = Calls(lambda s, x: Output(s.a(x), {"y": [s.b(x)]}), a=nn.Linear(4, 5), b=nn.Linear(4, 5))
    module = Calls(lambda s, x: (lambda out: out.logits + out.extra["y"][0])(s.inner(x)), inner=inner)
    report = traced(module, (2, 4))
    assert report.rows[-1].node.inputs == ("inner.a", "inner.b")


def test_several_inputs() -> None:
    module = Calls(lambda s, a, b: s.fc(torch.cat([a, b], 1)), fc=nn.Linear(7, 2))
    report = traced(module, [(2, 3), (2, 4)])
    assert [row.name for row in report if row.kind == "Input"] == ["input1", "input2"]
    [concat] = [row for row in report if row.kind == "Concat"]
    assert concat.node.inputs == ("input1", "input2")


def test_inputs_as_shapes_tensors_and_mixtures() -> None:
    module = Calls(lambda s, a, b, scale=1: (a + b) * scale)
    for inputs in ([(2, 3), (2, 3)], (torch.zeros(2, 3), (2, 3)), [torch.zeros(2, 3), torch.ones(2, 3)]):
        assert analyze(trace(module, inputs, scale=3)).output == (2, 3)
    assert analyze(trace(nn.Linear(3, 2), torch.Size((2, 3)))).output == (2, 2)
    assert analyze(trace(nn.Linear(3, 2), torch.zeros(2, 3))).output == (2, 2)


def test_dict_and_list_inputs() -> None:
    module = Calls(lambda s, batch: s.fc(batch["image"]) + batch["more"][0], fc=nn.Linear(4, 3))
    report = traced(module, {"image": (2, 4), "more": [(2, 3)]})
    assert report.total.macs == 24
    assert len([row for row in report if row.kind == "Input"]) == 2


def test_keyword_tensors_and_shapes() -> None:
    module = Calls(lambda s, x, *, mask, bias: s.fc(x * mask) + bias, fc=nn.Linear(4, 3))
    report = traced(module, (2, 4), mask=torch.ones(2, 4), bias=(2, 3))
    assert [row.name for row in report if row.kind == "Input"] == ["input", "mask", "bias"]
    assert report.total.macs == 24


def test_keywords_alone() -> None:
    module = Calls(lambda s, *, x: s.fc(x), fc=nn.Linear(4, 3))
    assert traced(module, (), x=(2, 4)).total.macs == 24


def test_integer_ids() -> None:
    module = Calls(lambda s, ids: s.fc(s.table(ids)), table=nn.Embedding(10, 4), fc=nn.Linear(4, 3))
    report = traced(module, torch.zeros(2, 5, dtype=torch.long))
    assert report.total.macs == 10 * 12
    assert report.output == (2, 5, 3)


def test_inputs_are_left_alone() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    trace(Calls(lambda s, x: x.detach().add_(1)), x)
    assert torch.equal(x, torch.zeros(2, 4))
    assert x.grad is None
    y = torch.zeros(2, 4)
    with pytest.warns(UserWarning, match="real tensors"):
        trace(Calls(lambda s, x: x.add_(1) if float((x * s.scale).sum()) == 0 else x, scale=parameter(4)), y)
    assert torch.equal(y, torch.zeros(2, 4))


def test_python_control_flow() -> None:
    def forward(self: Any, x: Tensor, times: int) -> Tensor:
        for index in range(times):
            x = self.a(x) if index % 2 else self.b(x)
        return x if x.shape[0] > 1 else x[0]

    module = Calls(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 4, bias=False))
    report = traced(module, ((2, 4), 5))
    assert [row.name for row in report] == ["input", "b", "a", "b:2", "a:2", "b:3"]
    assert report.total.macs == 5 * 32


def test_control_flow_on_data_runs_on_real_tensors() -> None:
    module = Calls(lambda s, x: s.fc(x) if x.sum() > -1e9 else x, fc=nn.Linear(4, 3))
    with pytest.warns(UserWarning, match="cannot run without data"):
        assert traced(module, (2, 4)).total.macs == 24


def test_residual_edges_are_real() -> None:
    module = Calls(lambda s, x: x + s.b(s.a(x)), a=nn.Conv2d(3, 3, 3, padding=1), b=nn.Conv2d(3, 3, 3, padding=1))
    report = traced(module, (1, 3, 8, 8))
    assert report.rows[-1].node.inputs == ("input", "b")
    assert report.rows[-1].receptive_field == (5, 5)
    assert report["b"].receptive_field == (5, 5)


def test_view_that_is_changed_in_place_keeps_the_graph_together() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.fc(x)
        y[:, 0] = 0
        return y

    assert traced(Calls(forward, fc=nn.Linear(4, 3)), (2, 4)).total.macs == 24


def test_module_that_returns_its_input() -> None:
    assert trace(Calls(lambda s, x: x), (2, 4)).outputs == ("input",)


def test_data_parallel_module() -> None:
    inner = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    assert traced(nn.DataParallel(inner), (2, 4)).total.macs == 24


def test_module_on_the_meta_device() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    assert trace(module, (1, 3, 8, 8)) == trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), (1, 3, 8, 8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_module_of_another_dtype(dtype: Any) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 2)).to(dtype)
    assert traced(module, (1, 3, 8, 8)).total.macs == 8 * 36 * 27 + 8 * 36 * 2


# Uncounted operations


def spectrum() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), Calls(lambda s, x: torch.fft.fft2(x).real * 2))


def test_uncounted_operation_is_a_row_and_totals_are_lower_bounds() -> None:
    report = traced(spectrum(), (1, 3, 8, 8))
    [row] = report.uncounted
    assert row.kind == "_fft_r2c" or "fft" in row.kind
    assert row.name.startswith("1.")
    assert row.inputs == ((1, 4, 6, 6),)
    assert row.output == (1, 4, 6, 6)
    assert "at least" in str(report)
    assert report.total.macs == 4 * 36 * 27
    record = report.to_dict()
    assert [entry["counted"] for entry in record["layers"] if "fft" in entry["kind"]] == [False]
    assert len(record["uncounted"]) == 1


@pytest.fixture
def rule() -> Iterator[Callable[[str, operations.Rule], None]]:
    names: list[str] = []

    def add(name: str, rule: operations.Rule) -> None:
        operations.operation(name)(rule)
        names.append(name)

    yield add
    for name in names:
        del operations.RULES[name]


def test_registered_rule_counts(rule: Callable[[str, operations.Rule], None]) -> None:
    [row] = traced(spectrum(), (1, 3, 8, 8)).uncounted
    rule(row.kind, lambda call: Elementwise("fft2", (("mul", 6),)))
    report = traced(spectrum(), (1, 3, 8, 8))
    assert report.uncounted == ()
    [row] = [row for row in report if row.kind == "fft2"]
    assert dict(row.ledger) == {"mul": 6 * 4 * 36}
    assert "at least" not in str(report)


def test_rule_that_gives_another_shape_than_torch_is_not_believed(
    rule: Callable[[str, operations.Rule], None],
) -> None:
    from archcalc.layers.operation import Permute

    [row] = traced(spectrum(), (1, 3, 8, 8)).uncounted
    rule(row.kind, lambda call: Permute("wrong", (1, 0, 2, 3)))
    assert len(traced(spectrum(), (1, 3, 8, 8)).uncounted) == 1


def test_second_rule_for_an_operation_is_refused() -> None:
    with pytest.raises(SpecError, match="already a rule for the operation mm"):
        operations.operation("mm")(lambda call: Elementwise("mm"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("not_an_op", "not_an_op$"),
        ("cdist_forward", "cdist_forward; did you mean _cdist_forward"),
        ("fmin_", "fmin_; did you mean fmin"),
    ],
)
def test_a_rule_for_an_operation_there_is_not_is_refused(name: str, hint: str) -> None:
    with pytest.raises(SpecError, match=f"no operation torch.ops.aten.{hint}"):
        operations.operation(name)(lambda call: Elementwise(name))
    assert name not in operations.RULES


def test_a_rule_of_code_that_is_in_no_module() -> None:
    code = "import archcalc\n@archcalc.operation('_cdist_forward')\ndef rule(call): ..."
    try:
        exec(code, {"__name__": None})  # as of pages whose examples are run
        assert "_cdist_forward" in operations.RULES
    finally:
        operations.RULES.pop("_cdist_forward", None)


def test_custom_operation_is_uncounted_by_its_full_name() -> None:
    with torch.library._scoped_library("archcalc_test", "FRAGMENT") as library:
        library.define("swish(Tensor x) -> Tensor")
        library.impl("swish", lambda x: torch.empty_like(x), "Meta")
        report = traced(Calls(lambda s, x: torch.ops.archcalc_test.swish(x)), (2, 4))
    assert [row.kind for row in report.uncounted] == ["archcalc_test::swish"]


# Another input


def assert_retargets(make: Callable[[], nn.Module], seen: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    retargeted, direct = analyze(trace(make(), seen), wanted), analyze(trace(make(), wanted))
    assert _numbers(retargeted) == _numbers(direct)


def _numbers(report: Report) -> list[tuple[Any, ...]]:
    def numbers(row: Row) -> tuple[Any, ...]:
        return (row.name, row.kind, row.output, dict(row.ledger), row.params, row.buffers, row.activations)

    return [numbers(row) for row in report]


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5", "convnext_tiny"]
)
def test_traced_network_at_another_size_is_the_trace_at_that_size(name: str) -> None:
    models = pytest.importorskip("torchvision.models")

    def make() -> nn.Module:
        with torch.device("meta"):
            return getattr(models, name)(weights=None)

    assert_retargets(make, (1, 3, 224, 224), (2, 3, 160, 192))


@pytest.mark.parametrize("other", [(4, 3, 32, 32), (1, 3, 48, 48), ("N", 3, 32, 32), (1, 3, "H", "W")])
def test_a_size_that_is_baked_in_is_an_error_that_names_the_layer(other: tuple[Any, ...]) -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        module = models.VisionTransformer(32, 16, 2, 2, 8, 16)
    with pytest.raises(ShapeError, match=r"^[a-z_0-9.:]+ "):
        analyze(trace(module, (1, 3, 32, 32)), other)


class _Merged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x.reshape(x.shape[0] * x.shape[1], x.shape[2])
        return y.t() @ y


@pytest.mark.parametrize("other", [(16, 4, 64), (2, 1, 64), (16, "C", 64)])
def test_a_view_that_can_be_read_in_several_ways_is_baked_in(other: tuple[Any, ...]) -> None:
    net = trace(_Merged(), (16, 1, 64))
    try:
        found = analyze(net, other).total.macs
    except ShapeError:
        return
    assert all(isinstance(extent, int) for extent in other)
    assert found == analyze(trace(_Merged(), other)).total.macs


def test_a_letter_never_invents_parameters() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(ShapeError, match="its weight is"):
        analyze(trace(module, (1, 12, 4, 3)), (1, 12, 4, "W"))
    assert analyze(trace(module, (1, 12, 4, 3)), ("N", 12, 4, 3)).total.params == 1450  # 144·10 + 10


def test_symbols_evaluate_to_the_numbers_of_a_trace() -> None:
    sympy = pytest.importorskip("sympy")
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
    )  # fmt: skip
    symbolic = analyze(trace(module, (1, 3, 32, 32)), ("N", 3, "H", "W"))
    known = analyze(trace(module, (2, 3, 36, 48)))
    names = {symbol.name: symbol for symbol in sympy.sympify(symbolic.total.macs).free_symbols}
    values = {names["N"]: 2, names["H"]: 36, names["W"]: 48}
    for row, other in zip(symbolic, known, strict=True):
        assert sympy.sympify(row.macs).subs(values) == other.macs
        assert sympy.sympify(row.activations).subs(values) == other.activations
        assert row.params == other.params


def test_symbolic_resnet() -> None:
    sympy = pytest.importorskip("sympy")
    models = pytest.importorskip("torchvision.models")
    module = models.resnet18(weights=None)
    macs = analyze(trace(module, (1, 3, 64, 64)), ("N", 3, "H", "W")).total.macs
    names = {symbol.name: symbol for symbol in macs.free_symbols}
    known = analyze(trace(module, (2, 3, 96, 128))).total.macs
    assert sympy.sympify(macs).subs({names["N"]: 2, names["H"]: 96, names["W"]: 128}) == known


def test_a_kernel_as_large_as_the_map_may_come_from_it() -> None:
    class Pools(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(F.max_pool2d(x, 2), (x.shape[2] // 2, x.shape[3] // 2))

    net = trace(Pools(), (1, 3, 8, 8))
    assert analyze(net, (4, 3, 8, 8)).rows[-1].output == (4, 3, 1, 1)
    with pytest.raises(ShapeError, match=r"avg_pool2d.*baked in"):
        analyze(net, (1, 3, 16, 16))


def baked() -> nn.Module:
    view = Calls(lambda s, x: x.view(1, 4608))
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), view, nn.Linear(4608, 2))


@pytest.mark.parametrize("wanted", [(1, 3, 48, 48), (1, 3, 24, 25)])
def test_size_baked_into_a_model_is_an_error_that_names_the_layer(wanted: tuple[int, ...]) -> None:
    net = trace(baked(), (1, 3, 24, 24))
    assert analyze(net).output == (1, 2)
    with pytest.raises(ShapeError, match=r"^(1\.view|2) "):
        analyze(net, wanted)


def test_other_channels_are_an_error_that_names_the_layer() -> None:
    net = trace(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 8, 3)), (1, 3, 8, 8))
    with pytest.raises(ShapeError, match=r"^1 \(Conv2d\) .*1×4×8×8"):
        analyze(net, (1, 4, 8, 8))


def test_other_channels_of_a_functional_convolution_are_an_error() -> None:
    net = trace(Calls(conv, weight=parameter(8, 3, 3, 3), bias=parameter(8)), (2, 3, 8, 8))
    with pytest.raises(ShapeError, match="convolution"):
        analyze(net, (2, 4, 8, 8))


def test_network_of_two_inputs_takes_no_other_shape() -> None:
    net = trace(Calls(lambda s, a, b: a + b), [(2, 3), (2, 3)])
    with pytest.raises(InputError, match="2 inputs"):
        analyze(net, (4, 3))


# Errors


@pytest.mark.parametrize(
    ("module", "inputs", "words"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3)), (1, 4, 8, 8), ["0 (Conv2d)", "1×4×8×8", "8×3×3×3"]),
        (nn.Sequential(nn.ReLU(), nn.MaxPool2d(4)), (1, 3, 2, 2), ["1 (MaxPool2d)", "1×3×2×2"]),
        (nn.Sequential(nn.Flatten(), nn.Linear(10, 2)), (1, 3, 2, 2), ["1 (Linear)", "12"]),
        (Calls(lambda s, a, b: a + b), (2, 3), ["calls (Calls)", "2×3", "missing 1 required"]),
        (nn.Linear(3, 2), (), ["missing", "Linear"]),
        (Calls(lambda s, a: s.nothing), (2, 3), ["no attribute 'nothing'"]),
        (nn.LazyLinear(4), (2, 3), ["lazy"]),
        (nn.Sequential(nn.LazyConv2d(4, 3)), (1, 3, 8, 8), ["lazy"]),
    ],
)
def test_module_that_cannot_run(module: nn.Module, inputs: Any, words: list[str]) -> None:
    with pytest.raises(TraceError) as caught:
        trace(module, inputs)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ZeroDivisionError("a reason of my own\nand a second line")


def test_error_names_the_module_the_input_and_the_original_error() -> None:
    module = nn.Sequential(nn.Identity(), nn.ModuleDict({"deep": Fails()})["deep"])
    outer = nn.ModuleDict({"block": module})
    whole = Calls(lambda s, x: s.outer["block"](x), outer=outer)
    with pytest.raises(
        TraceError, match=r"outer\.block\.1 \(Fails\) received 1×2×3 and failed: a reason of my own and a second line$"
    ) as caught:
        trace(whole, (1, 2, 3))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_error_after_a_submodule_raised_and_was_caught_names_the_outer_module() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        try:
            return self.bad(x)
        except ZeroDivisionError:
            return self.good(x)

    report = traced(Calls(forward, bad=Fails(), good=nn.Linear(4, 3)), (2, 4))
    assert report["good"].node.blocks == ()
    assert report.total.macs == 24


def test_layer_that_raised_and_was_caught_does_not_hide_what_follows() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        try:
            return self.bad(x)
        except RuntimeError:
            return x @ self.weight

    report = traced(Calls(forward, bad=nn.Linear(5, 3), weight=parameter(4, 3)), (2, 4))
    assert report.total.macs == 24


@pytest.mark.parametrize("wrong", [None, 3, "resnet18", nn.Linear, lambda x: x])
def test_what_is_no_module(wrong: Any) -> None:
    with pytest.raises(TraceError, match=r"trace takes an nn\.Module, not"):
        trace(wrong, (1, 3))


def test_module_that_cannot_be_copied_says_so() -> None:
    module = Calls(lambda s, x: x, numbers=(i for i in range(3)))
    with pytest.raises(TraceError, match="cannot be copied"):
        trace(module, (1, 3))


def test_module_that_holds_a_lock_and_a_python_module() -> None:
    module = Calls(lambda s, x: s.fc(x), fc=nn.Linear(3, 4), lock=threading.Lock(), library=copy)
    assert traced(module, (2, 3)).total.macs == 24


def test_compiled_modules() -> None:
    compiled = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    compiled.compile()
    assert traced(compiled, (2, 3)).total.macs == 24
    assert compiled._compiled_call_impl is not None
    assert traced(torch.compile(nn.Linear(3, 4)), (2, 3)).total.macs == 24


def test_what_is_written_through_one_view_is_read_through_another() -> None:
    def run(s: Any, x: Tensor, y: Tensor) -> Tensor:
        view = torch.zeros_like(x).view(4, 3)
        view[:, 0] = s.fc(y)[0]
        return view.sum()

    report = traced(Calls(run, fc=nn.Linear(3, 4)), [(2, 6), (1, 3)])
    assert {"input2", "fc"} <= _reached(report)


# Functional transforms


def test_vmap_counts_every_call_and_keeps_the_edges() -> None:
    module = Calls(lambda s, x: torch.vmap(s.fc)(x), fc=nn.Linear(3, 4))
    report = traced(module, (5, 2, 3))
    assert report.total.macs == 5 * 2 * 3 * 4 == flop_counter_macs(module, meta(5, 2, 3))
    reached = _reached(report)
    assert {"input", "fc.weight", "fc.bias"} <= reached


def test_functional_call_takes_the_tensors_it_is_given() -> None:
    module = Calls(
        lambda s, x: torch.func.functional_call(s.fc, {"weight": s.a @ s.b}, (x,)),
        fc=nn.Linear(3, 4),
        a=parameter(4, 5),
        b=parameter(5, 3),
    )
    report = traced(module, (2, 3))
    assert report.total.macs == 4 * 5 * 3 + 2 * 3 * 4
    assert {"input", "a", "b", "fc.bias"} <= _reached(report)
    assert "fc.weight" not in _reached(report)


def _reached(report: Report) -> set[str]:
    """The nodes that the output depends on."""
    found: set[str] = set()
    waiting = list(report.network.outputs)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += report.network[name].inputs
    return found


def test_every_parameter_with_a_gradient_is_reached() -> None:
    module = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    reached = _reached(traced(module, [(1, 3, 8), (1, 5, 8)]))
    module.eval()(torch.rand(1, 3, 8), torch.rand(1, 5, 8)).sum().backward()
    names = {name for name, one in module.named_parameters() if one.grad is not None}
    assert len(names) == 18
    assert {name if "attn.in_" in name else name.rpartition(".")[0] for name in names} <= reached | {
        f"{attention}.out_proj" for attention in ("self_attn", "multihead_attn")
    }


def test_error_of_many_lines_is_cut_short() -> None:
    class Long(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("the first reason; " + "and another; " * 1000)

    with pytest.raises(TraceError, match="received 1×3 and failed: the first reason; ") as caught:
        trace(Long(), (1, 3))
    assert len(str(caught.value)) < 1000


# Without a batch, and layers that are called otherwise than their kind assumes


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Conv2d(3, 4, 3), (3, 6, 5), 4 * 4 * 3 * 27),
        (nn.Sequential(nn.Conv1d(3, 4, 3), nn.AvgPool1d(2), nn.MaxPool1d(1)), (3, 6), 4 * 4 * 9),
        (nn.Sequential(nn.Conv3d(2, 4, 2), nn.MaxPool3d(2), nn.AdaptiveAvgPool3d(1)), (2, 5, 5, 5), 4 * 64 * 16),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveMaxPool2d(2), nn.AvgPool2d(2)), (3, 6, 6), 36 * 12),
        (nn.ConvTranspose2d(3, 4, 3, 2), (3, 6, 5), 30 * 3 * 4 * 9),
        (nn.LSTM(3, 4, 2, bidirectional=True), (5, 3), 5 * 2 * 16 * ((3 + 4) + (8 + 4))),
        (nn.GRU(3, 4, batch_first=True), (5, 3), 5 * 12 * 7),
        (nn.LSTMCell(3, 4), (3,), 16 * 7),
        (nn.Bilinear(3, 5, 4), (3,), 3 * 5 * 4 + 5 * 4),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_without_a_batch(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    inputs = [shape, (5,)] if isinstance(module, nn.Bilinear) else [shape]
    report = traced(module, inputs)
    assert report.uncounted == ()
    assert report.total.macs == macs
    found = module.eval()(*[torch.zeros(one) for one in inputs])
    assert report.output == tuple((found if isinstance(found, Tensor) else found[0]).shape)


def test_packed_sequences() -> None:
    def run(s: Any, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, [5, 3, 2], batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(s.rnn(packed)[0], batch_first=True)[0]

    report = traced(Calls(run, rnn=nn.LSTM(3, 4, batch_first=True)), (3, 5, 3))
    assert report.total.macs == (5 + 3 + 2) * 16 * 7
    assert (report.output, report.uncounted) == ((3, 5, 4), ())


def test_embedding_bags_with_offsets_and_weights() -> None:
    ids = torch.tensor([1, 2, 3, 4, 5])
    summed = traced(nn.EmbeddingBag(10, 4, mode="sum"), [ids, torch.tensor([0, 2])])
    assert (dict(summed.total.ledger), summed.output, summed.uncounted) == ({"add": 20}, (2, 4), ())
    mean = traced(nn.EmbeddingBag(10, 4), [ids, torch.tensor([0, 2])])
    assert dict(mean.total.ledger) == {"add": 20, "div": 8}
    weighted = traced(nn.EmbeddingBag(10, 4, mode="sum"), [ids[None]], per_sample_weights=torch.ones(1, 5))
    assert (weighted.total.macs, weighted.output, weighted.uncounted) == (20, (1, 4), ())


def test_transposed_convolution_with_an_output_size() -> None:
    module = Calls(lambda s, x: s.up(x, output_size=(8, 8)), up=nn.ConvTranspose2d(3, 4, 2, 3))
    report = traced(module, (1, 3, 3, 3))
    assert (report.output, report.total.macs, report.uncounted) == ((1, 4, 8, 8), 9 * 3 * 4 * 4, ())


def test_activations_in_place_that_have_no_such_option() -> None:
    report = traced(Calls(lambda s, x: s.fc(x).tanh_().sigmoid_(), fc=nn.Linear(3, 4)), (2, 3))
    assert dict(report.total.ledger) == {"mac": 24, "bias_add": 8, "tanh": 8, "exp": 8, "add": 8, "div": 8}
    assert report.total.activations == 6 + 8


def test_tensors_of_no_elements_are_joined_with_any() -> None:
    report = traced(Calls(lambda s, x: torch.cat([torch.zeros(0, device=x.device), x], -1)), (2, 3))
    assert (report.uncounted, report.output) == ((), (2, 3))


def test_experts_with_matrices_of_their_own() -> None:
    def run(s: Any, x: Tensor) -> Tensor:
        return torch._grouped_mm(x, s.w, offs=torch.tensor([2, 6], dtype=torch.int32, device=x.device))

    module = Calls(run, w=nn.Parameter(torch.zeros(2, 16, 8, dtype=torch.bfloat16)))
    report = traced(module, (6, 16))
    assert (report.total.macs, report.output, report.uncounted) == (6 * 16 * 8, (6, 8), ())


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x).abs() * self.factor


def test_a_layer_class_registered_for_a_module_class_describes_it() -> None:
    from archcalc.layers.base import KINDS
    from archcalc.pytorch.modules import DESCRIBED

    @dataclass(frozen=True, slots=True)
    class Scaled(Layer):
        factor: float

        def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
            return (elementwise(inputs[0], {"mul": 3}),)

    try:
        archcalc.operation(_Scale)(Scaled)
        report = analyze(trace(nn.Sequential(_Scale(2.0)), (2, 5)))
        assert [row.kind for row in report] == ["Input", "Scaled"]
        assert report.total.ledger == {"mul": 30}  # 3·2·5
        assert not report.uncounted
        with pytest.raises(SpecError, match="already a layer kind for _Scale"):
            archcalc.operation(_Scale)(Scaled)
    finally:
        DESCRIBED.pop(_Scale, None)
        KINDS.pop("Scaled", None)


def test_what_is_written_into_a_part_of_a_tensor_is_read_with_the_tensor() -> None:
    def forward(x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, :2] = x[:, 1:].tanh()
        return y.exp()

    net = trace(Calls(lambda _, x: forward(x)), (1, 3, 4, 4))
    seen: set[str] = set()
    todo = ["exp"]
    while todo:
        name = todo.pop()
        seen.add(name)
        todo += net[name].inputs
    assert {"tanh", "input"} <= seen
    report = analyze(net)
    assert report["write"].activations == 0
    assert report["exp"].output == (1, 3, 4, 4)


@pytest.mark.parametrize(
    ("options", "ledger"),
    [
        # products of 3 on 4·5 outputs
        ({}, {"mac": 60, "add": 20}),
        ({"alpha": 0.5}, {"mac": 60, "add": 20, "mul": 20}),
        ({"alpha": 0.5, "beta": 2}, {"mac": 60, "add": 20, "mul": 40}),
        ({"beta": 0}, {"mac": 60}),
    ],
)
def test_what_a_product_is_scaled_by_is_counted(options: dict[str, Any], ledger: dict[str, int]) -> None:
    net = trace(Calls(lambda _, c, a, b: torch.addmm(c, a, b, **options)), [(5,), (4, 3), (3, 5)])
    assert dict(analyze(net)["addmm"].ledger) == ledger


def test_functional_activations_and_norms() -> None:
    # a comparison and a product for each of 24 elements; squares and sums of 24, and 2 roots
    report = analyze(trace(Calls(lambda _, x, w: F.prelu(x, w)), [(2, 3, 4), (3,)]))
    assert dict(report.total.ledger) == {"cmp": 24, "mul": 24}
    distance = analyze(trace(Calls(lambda _, a, b: (a - b).norm(dim=1)), [(2, 12), (2, 12)]))
    assert dict(distance.total.ledger) == {"add": 24 + 24, "mul": 24, "sqrt": 2}
    other = analyze(trace(Calls(lambda _, x: torch.linalg.vector_norm(x, ord=1)), (2, 12)))
    assert [row.kind for row in other.uncounted] == ["linalg_vector_norm"]


def test_records_tell_unused_layers() -> None:
    net = trace(Calls(lambda s, x: s.one(x), one=nn.Linear(4, 4), two=nn.Linear(4, 4)), (1, 4))
    layers = analyze(net).to_dict()["layers"]
    assert {layer["name"]: layer["used"] for layer in layers} == {"input": True, "one": True, "two": False}


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        z = torch.complex(x, x)
        return torch.cat((z.sum(1, keepdim=True).real, z.abs(), torch.sigmoid(z).real, z.T.conj().real), 1)


def test_what_computes_on_complex_numbers_is_uncounted() -> None:
    report = analyze(trace(Complex(), (4, 4)))
    assert [row.node.layer.kind for row in report.uncounted][:3] == ["sum", "abs", "sigmoid"]
    assert sum(report.total.ledger.values()) == 0


@pytest.mark.filterwarnings("error")
def test_an_error_that_speaks_of_metadata_is_no_lack_of_data() -> None:
    class Raises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("bad metadata in the batch")

    with pytest.raises(TraceError, match="bad metadata"):
        trace(Raises(), (1, 3))


@pytest.mark.filterwarnings("error")
def test_parallel_copies_are_one() -> None:
    parallel = nn.DataParallel(nn.Linear(4, 2))
    parallel.device_ids, parallel.src_device_obj = [0, 1], torch.device("cuda", 0)
    report = analyze(trace(parallel, (3, 4)))
    assert (report.total.macs, report.total.params) == (3 * 4 * 2, 4 * 2 + 2)
    assert parallel.device_ids == [0, 1]
