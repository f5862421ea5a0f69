import copy
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from archcalc.errors import CheckError, MissingPackageError
from archcalc.pytorch.counters import counter
from archcalc.pytorch.counters.base import unfused
from archcalc.pytorch.untouched import untouched

COUNTERS = {tool: counter(tool) for tool in ("torch", "fvcore", "torchinfo")}
TOOLS = sorted(COUNTERS)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Call(nn.Module):
    """A function as a module that is not torch's."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def totals(module: nn.Module, *shapes: tuple[int, ...]) -> dict[str, int]:
    inputs = tuple(torch.ones(shape) for shape in shapes)
    return {tool: count(module, inputs).total for tool, count in COUNTERS.items()}


# Convolutions of 4 to 6 channels, 3×3, on 9×9; the weights are 4·6·3·3 = 216.
# (module, output positions, MACs of an image over what torch counts, what fvcore and torchinfo add to the MACs)
CONVOLUTIONS = [
    # 216 · 7·7 = 10,584 MACs, 6 · 7·7 = 294 outputs
    pytest.param(nn.Conv2d(4, 6, 3), 10_584, 0, 294, id="bias"),
    pytest.param(nn.Conv2d(4, 6, 3, bias=False), 10_584, 0, 0, id="no bias"),
    pytest.param(nn.Conv2d(4, 6, 3, groups=2), 5_292, 0, 294, id="grouped"),
    # outputs (9 - 5) // 2 + 1 = 3: 216 · 9 = 1,944 MACs, 6 · 9 = 54 outputs
    pytest.param(nn.Conv2d(4, 6, 3, dilation=2, stride=2), 1_944, 0, 54, id="dilated and strided"),
    # 216 · 81 = 17,496 MACs, 6 · 81 = 486 outputs; fvcore has no rule for `_convolution_mode`
    pytest.param(nn.Conv2d(4, 6, 3, padding="same"), 17_496, -17_496, 486, id="padding=same"),
    pytest.param(nn.Conv2d(4, 6, 3, padding="valid"), 10_584, -10_584, 294, id="padding=valid"),
    pytest.param(nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), 17_496, 0, 486, id="reflect"),
    # weights on the input's 81 positions are 17,496 MACs; torchinfo has them on the output's 19·19 = 361:
    # 216 · 361 - 17,496 = 60,480, and 6 · 361 = 2,166 outputs
    pytest.param(nn.ConvTranspose2d(4, 6, 3, stride=2), 17_496, 0, 60_480 + 2_166, id="transposed"),
]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("module", "macs", "fvcore", "torchinfo"), CONVOLUTIONS)
def test_what_a_convolution_counts(module: nn.Module, macs: int, fvcore: int, torchinfo: int, batch: int) -> None:
    expected = {"torch": macs, "fvcore": macs + fvcore, "torchinfo": macs + torchinfo}
    assert totals(module, (batch, 4, 9, 9)) == {tool: batch * one for tool, one in expected.items()}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("bias", "tokens", "fvcore", "torchinfo"),
    [
        (True, (), 35, 35 + 7),
        (False, (), 35, 35),
        # three tokens of 35 MACs; torchinfo multiplies weights and biases by the batch alone
        (True, (3,), 105, 35 + 7),
    ],
)
def test_what_a_linear_layer_counts(
    bias: bool, tokens: tuple[int, ...], fvcore: int, torchinfo: int, batch: int
) -> None:
    macs = math.prod(tokens) * 5 * 7
    expected = {"torch": macs, "fvcore": fvcore, "torchinfo": torchinfo}
    found = totals(nn.Linear(5, 7, bias=bias), (batch, *tokens, 5))
    assert found == {tool: batch * one for tool, one in expected.items()}


# What is not a multiply-add of a convolution or matrix, on 4 channels of 9×9 = 324 elements.
NOT_MACS = [
    pytest.param(nn.BatchNorm2d(4), 2 * 324, 2 * 4, id="BatchNorm2d"),
    pytest.param(nn.BatchNorm2d(4, affine=False), 324, 0, id="BatchNorm2d not affine"),
    pytest.param(nn.BatchNorm2d(4, track_running_stats=False), 5 * 324, 2 * 4, id="BatchNorm2d without statistics"),
    pytest.param(nn.LayerNorm(9), 5 * 324, 2 * 9, id="LayerNorm"),
    pytest.param(nn.LayerNorm(9, elementwise_affine=False), 4 * 324, 0, id="LayerNorm not affine"),
    pytest.param(nn.GroupNorm(2, 4), 5 * 324, 2 * 4, id="GroupNorm"),
    pytest.param(nn.InstanceNorm2d(4), 4 * 324, 0, id="InstanceNorm2d"),
    pytest.param(nn.InstanceNorm2d(4, affine=True), 5 * 324, 2 * 4, id="InstanceNorm2d affine"),
    pytest.param(nn.AdaptiveAvgPool2d(3), 324, 0, id="AdaptiveAvgPool2d"),
    pytest.param(nn.AdaptiveAvgPool2d(1), 324, 0, id="AdaptiveAvgPool2d to 1×1"),
    pytest.param(nn.AdaptiveAvgPool2d(4), 324, 0, id="AdaptiveAvgPool2d with windows that overlap"),
    pytest.param(nn.AdaptiveAvgPool2d(11), 324, 0, id="AdaptiveAvgPool2d to a larger size"),
    pytest.param(Call(lambda x: functional.adaptive_avg_pool2d(x, (2, 5))), 324, 0, id="F.adaptive_avg_pool2d"),
    pytest.param(nn.AdaptiveMaxPool2d(3), 0, 0, id="AdaptiveMaxPool2d"),
    pytest.param(nn.AvgPool2d(3), 0, 0, id="AvgPool2d"),
    pytest.param(nn.MaxPool2d(3), 0, 0, id="MaxPool2d"),
    pytest.param(Call(lambda x: x.mean((2, 3))), 0, 0, id="mean"),
    pytest.param(nn.LocalResponseNorm(5), 0, 0, id="LocalResponseNorm"),
    pytest.param(nn.ReLU(), 0, 0, id="ReLU"),
    pytest.param(nn.GELU(), 0, 0, id="GELU"),
    pytest.param(nn.PReLU(4), 0, 4, id="PReLU"),
    pytest.param(nn.Dropout(), 0, 0, id="Dropout"),
    pytest.param(nn.Softmax(1), 0, 0, id="Softmax"),
    pytest.param(nn.Flatten(), 0, 0, id="Flatten"),
    pytest.param(nn.Upsample(scale_factor=2), 4 * 324, 0, id="Upsample nearest"),
    pytest.param(nn.Upsample(scale_factor=2, mode="bilinear"), 4 * 4 * 324, 0, id="Upsample bilinear"),
    pytest.param(Call(lambda x: torch.cat([x, x], 1)), 0, 0, id="cat"),
    pytest.param(Call(lambda x: x + x), 0, 0, id="add"),
    pytest.param(Call(lambda x: x.__iadd__(1)), 0, 0, id="add in place"),
    pytest.param(Call(lambda x: x[:, :, ::2, ::2]), 0, 0, id="strided slice"),
    pytest.param(Call(lambda x: functional.pad(x, (1, 1, 1, 1))), 0, 0, id="pad"),
]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("module", "fvcore", "torchinfo"), NOT_MACS)
def test_what_is_counted_without_macs(module: nn.Module, fvcore: int, torchinfo: int, batch: int) -> None:
    expected = {"fvcore": batch * fvcore, "torch": 0, "torchinfo": batch * torchinfo}
    assert totals(module.train(), (batch, 4, 9, 9)) == expected


# Products that are functional calls, which torchinfo does not see.
PRODUCTS = [
    pytest.param(lambda a, b: a @ b, (3, 4, 5), (5, 6), 360, 360, id="matmul"),
    # fvcore reads the batch off the first operand only: 4·5·6 = 120 of 3·4·5·6 = 360
    pytest.param(lambda a, b: a @ b, (4, 5), (3, 5, 6), 360, 120, id="matmul broadcast over the first"),
    pytest.param(torch.bmm, (3, 4, 5), (3, 5, 6), 360, 360, id="bmm"),
    pytest.param(functional.linear, (3, 5), (6, 5), 90, 90, id="F.linear"),
    pytest.param(functional.conv2d, (1, 4, 9, 9), (6, 4, 3, 3), 10_584, 10_584, id="F.conv2d"),
    pytest.param(lambda a, b: torch.baddbmm(a, a, b), (3, 5, 5), (3, 5, 5), 375, 0, id="baddbmm"),
    # numpy writes the FLOPs of an einsum with four digits: 6,422,528 is 6.423e+06, of which fvcore takes half
    pytest.param(lambda a, b: torch.einsum("ij,jk->ik", a, b), (3136, 32), (32, 32), 3_211_264, 3_211_500, id="einsum"),
    pytest.param(lambda a, b: torch.einsum("nct,ncp->ntp", a, b), (3, 4, 5), (3, 4, 6), 360, 360, id="einsum it knows"),
]


@pytest.mark.parametrize(("function", "a", "b", "macs", "fvcore"), PRODUCTS)
def test_functional_products(
    function: Callable[..., Tensor], a: tuple[int, ...], b: tuple[int, ...], macs: int, fvcore: int
) -> None:
    assert totals(Call(function), a, b) == {"torch": macs, "fvcore": fvcore, "torchinfo": 0}


def test_operations_that_fvcore_has_no_rule_for_are_named() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 3, padding="same"), nn.MaxPool2d(2), nn.Softmax(1), nn.ReLU())
    counted = COUNTERS["fvcore"](module, (torch.ones(1, 3, 4, 4),))
    assert counted.unsupported == ("aten::_convolution_mode", "aten::max_pool2d", "aten::softmax")


class Shared(nn.Module):
    """One block under two names and called twice; and a product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
        self.second = self.first
        self.last = nn.Linear(5, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.second(self.first(x)))
        return y @ y.T


@pytest.mark.parametrize(
    ("tool", "inner", "own"),
    # two calls of 3 tokens · 25; torchinfo adds the 5 biases of each; the product 3·2·3 is the root's
    [("torch", 150, 18), ("fvcore", 150, 18), ("torchinfo", 180, 0)],
)
def test_layers_have_their_first_path_and_the_sum_of_their_calls(tool: str, inner: int, own: int) -> None:
    counted = COUNTERS[tool](Shared(), (torch.ones(3, 5),))
    assert counted.layers == {"first.0": inner, "first.1": 0, "last": 30}
    assert counted.total == inner + 30 + own


def test_parameters_of_a_shared_module_are_counted_once() -> None:
    params = {tool: count(Shared(), (torch.ones(3, 5),)).params for tool, count in COUNTERS.items()}
    assert params == {"torch": None, "fvcore": 30 + 10, "torchinfo": 30 + 10}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_module_that_is_one_layer_has_the_empty_path(tool: str) -> None:
    counted = COUNTERS[tool](nn.Linear(5, 7, bias=False), (torch.ones(1, 5),))
    assert (counted.layers, counted.total) == ({"": 35}, 35)
    assert counted.tool == tool
    assert counted.version[0].isdigit()


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_torch_sees_into_fused_kernels(grad: bool, frozen: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).requires_grad_(not frozen)
    lstm = nn.LSTM(5, 7).requires_grad_(not frozen)
    with torch.set_grad_enabled(grad):
        # 6 tokens: 4·8·8 of attention's projections and 2·8·16; 2 images · 2 products · 3·3 pairs · 8 features
        assert COUNTERS["torch"](layer, (torch.ones(2, 3, 8),)).total == 6 * (256 + 256) + 2 * 2 * 9 * 8
        # 6 steps of 4 gates, 7 by 5 inputs and 7 of the state
        assert COUNTERS["torch"](lstm, (torch.ones(3, 2, 5),)).total == 6 * 4 * 7 * (5 + 7)
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mkldnn.enabled
    assert torch.backends.cudnn.enabled


# The rules, summed over torchvision's networks from the modules' own attributes.


def shapes(module: nn.Module, x: Tensor) -> Iterator[tuple[nn.Module, tuple[int, ...], tuple[int, ...]]]:
    seen: list[tuple[nn.Module, tuple[int, ...], tuple[int, ...]]] = []

    def hook(one: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((one, tuple(inputs[0].shape), tuple(output.shape)))

    handles = [one.register_forward_hook(hook) for one in module.modules() if not list(one.children())]
    with torch.no_grad():
        module.eval()(x)
    for handle in handles:
        handle.remove()
    yield from seen


def rules(module: nn.Module, source: tuple[int, ...], result: tuple[int, ...]) -> dict[str, int]:
    """MACs, and what fvcore and torchinfo add to them."""
    if isinstance(module, nn.Conv2d):
        window = math.prod(module.kernel_size) * module.in_channels // module.groups
        outputs = math.prod(result)
        return {"macs": outputs * window, "fvcore": 0, "torchinfo": outputs if module.bias is not None else 0}
    if isinstance(module, nn.Linear):
        outputs = math.prod(result)
        return {"macs": outputs * module.in_features, "fvcore": 0, "torchinfo": outputs}
    if isinstance(module, nn.BatchNorm2d):
        return {"macs": 0, "fvcore": 2 * math.prod(source), "torchinfo": source[0] * 2 * module.num_features}
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return {"macs": 0, "fvcore": math.prod(source), "torchinfo": 0}
    assert isinstance(module, nn.ReLU | nn.MaxPool2d | nn.Dropout), type(module)
    return {"macs": 0, "fvcore": 0, "torchinfo": 0}


@pytest.fixture(scope="module", params=["alexnet", "vgg11", "resnet18"])
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    models = pytest.importorskip("torchvision.models")
    module: nn.Module = getattr(models, request.param)(weights=None)
    return module, torch.ones(2 if request.param == "resnet18" else 1, 3, 224, 224)


def test_the_rules_give_each_total_to_the_unit(network: tuple[nn.Module, Tensor]) -> None:
    module, x = network
    found = {tool: count(module, (x,)) for tool, count in COUNTERS.items()}
    parts = [rules(*one) for one in shapes(module, x)]
    macs = sum(one["macs"] for one in parts)
    assert found["torch"].total == macs
    assert found["fvcore"].total == macs + sum(one["fvcore"] for one in parts)
    assert found["torchinfo"].total == macs + sum(one["torchinfo"] for one in parts)
    params = sum(one.numel() for one in module.parameters())
    assert found["fvcore"].params == found["torchinfo"].params == params
    assert all(sum((counted.layers or {}).values()) == counted.total for counted in found.values())


# Leaving the module alone.


class Odd(nn.Module):
    """It keeps state, has hooks, mixed modes and a frozen part, works in place, draws random numbers, and can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.conv = nn.Conv2d(2, 2, 1)
        self.norm.weight.requires_grad_(False)
        self.register_buffer("calls", torch.zeros(()))
        self.count = 0
        self.fails = False
        self.conv.register_forward_hook(lambda *_: None)
        self.conv.weight.grad = torch.ones_like(self.conv.weight)
        self.train()
        self.norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        self.count += 1
        self.left_over = x
        self.calls: Tensor
        self.calls.add_(1)
        y: Tensor = self.conv(self.norm(x)) + torch.rand(())
        if self.fails:
            raise ValueError("mine")
        return y


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")


def state(module: nn.Module) -> dict[str, Any]:
    parts = dict(module.named_modules())
    return {
        "values": {name: value.tolist() for name, value in module.state_dict().items()},
        "grad": {
            n: (p.requires_grad, None if p.grad is None else p.grad.tolist()) for n, p in module.named_parameters()
        },
        "modes": {name: one.training for name, one in parts.items()},
        "hooks": {name: [list(getattr(one, kind)) for kind in HOOKS] for name, one in parts.items()},
        "attributes": {name: list(vars(one)) for name, one in parts.items()},
        "count": module.count,
        "random": torch.get_rng_state().tolist(),
    }


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_counter_leaves_module_inputs_and_generator_alone(tool: str, fails: bool) -> None:
    module, x = Odd(), torch.zeros(1, 2, 3, 3)
    module.fails = fails
    before = state(module)
    if fails:
        with pytest.raises(CheckError, match=r"could not count Odd: ValueError: mine$"):
            COUNTERS[tool](module, (x,))
    else:
        COUNTERS[tool](module, (x,))
    assert state(module) == before
    assert not x.any()
    assert torch.is_grad_enabled()


def test_untouched_undoes_what_is_done_to_a_module() -> None:
    module = Odd()
    before = state(module)
    original = copy.copy(vars(module.conv))

    def meddle() -> None:
        module.eval()
        module.conv.requires_grad_(False)
        module.conv.register_forward_pre_hook(lambda *_: None)
        module.conv.register_buffer("total_ops", torch.zeros(1))
        vars(module.conv)["forward"] = lambda x: x
        module.calls = torch.ones(())
        module.conv.weight.grad = None
        assert module.norm.running_mean is not None
        module.norm.running_mean.add_(1)
        del module.count
        torch.manual_seed(1)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), untouched(module):
        meddle()
    assert state(module) == before
    assert vars(module.conv) == original


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_untouched_restores_the_mode_of_a_scripted_module() -> None:
    module = torch.jit.script(nn.Sequential(nn.Dropout()))  # keeps it outside its `__dict__`
    with untouched(module):
        module.eval()
    assert [one.training for one in module.modules()] == [True, True]


def test_untouched_undoes_a_gradient_that_was_added_to() -> None:
    module = Odd()
    before = state(module)
    with untouched(module):
        module(torch.zeros(1, 2, 3, 3)).sum().backward()
        assert state(module)["grad"] != before["grad"]
    assert state(module) == before


@pytest.mark.parametrize("tool", TOOLS)
def test_counting_twice_gives_the_same(tool: str) -> None:
    module, x = Odd(), torch.zeros(1, 2, 3, 3)
    assert COUNTERS[tool](module, (x,)) == COUNTERS[tool](module, (x,))


@pytest.mark.parametrize("tool", TOOLS)
def test_counting_is_quiet(tool: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 3, padding="same"), nn.Softmax(1), Call(lambda x: x if x.sum() > 0 else -x))
    module.append(nn.ModuleDict({"unused": nn.Linear(2, 2)})["unused"])
    COUNTERS[tool](module, (torch.ones(1, 3, 2, 2),))
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


@pytest.mark.parametrize("tool", ["fvcore", "torchinfo"])
def test_a_missing_package_says_how_to_install_it(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == tool]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, tool, None)
    with pytest.raises(MissingPackageError, match=rf'^{tool} is not installed: pip install "archcalc\[counters\]"$'):
        COUNTERS[tool](nn.ReLU(), (torch.ones(1),))


def test_torchinfo_keeps_no_module_alive() -> None:
    torchinfo = pytest.importorskip("torchinfo")
    COUNTERS["torchinfo"](nn.ReLU(), (torch.ones(1),))
    assert torchinfo.torchinfo._cached_forward_pass == {}


def test_an_odd_number_of_flops_is_not_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FlopCounterMode, "get_total_flops", lambda self: 71)
    with pytest.raises(CheckError, match="counts 71 FLOPs in total: odd"):
        COUNTERS["torch"](nn.Linear(5, 7), (torch.ones(1, 5),))


@pytest.mark.parametrize("tool", ["torch", "torchinfo"])
def test_counting_on_meta(tool: str) -> None:
    module = nn.Conv2d(4, 6, 3, bias=False, device="meta")
    assert COUNTERS[tool](module, (torch.ones(1, 4, 9, 9, device="meta"),)).total == 10_584


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("tool", TOOLS)
def test_counting_on_a_real_cuda_device(tool: str) -> None:
    module = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.ReLU(), nn.Dropout()).cuda()
    before = torch.cuda.get_rng_state()
    assert COUNTERS[tool](module, (torch.ones(1, 4, 9, 9, device="cuda"),)).total == 10_584
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.cuda
@needs_cuda
def test_torch_sees_into_a_fused_lstm_on_cuda() -> None:
    counted = COUNTERS["torch"](nn.LSTM(5, 7).cuda(), (torch.ones(3, 2, 5, device="cuda"),))
    assert counted.total == 6 * 4 * 7 * (5 + 7)


def test_hooks_keep_an_encoder_from_the_fast_path_in_which_torch_sees_nothing() -> None:
    """What docs/conventions.md says of calling the tools oneself."""
    thop, torchinfo = pytest.importorskip("thop"), pytest.importorskip("torchinfo")
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), torch.ones(2, 3, 8)

    def said() -> tuple[int, float, int]:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            layer(x)
        twice = thop.profile(copy.deepcopy(layer), (x,), verbose=False)[0]
        summary = torchinfo.summary(copy.deepcopy(layer), input_data=[x], verbose=0, mode="eval")
        return counter.get_total_flops(), twice, summary.total_mult_adds

    with unfused():
        slow = said()
    fast = said()
    # four projections of 8 to 8, two products of 3 tokens with 3, and 8 to 16 to 8, of 2 sequences of 3 tokens
    assert (slow[0], fast[0]) == (2 * 6 * (4 * 64 + 2 * 3 * 8 + 2 * 128), 0)
    assert slow[1:] == fast[1:]
