"""Memory of traced modules whose tensors have several types: each as wide as it is, against PyTorch itself."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import archcalc as ac
from archcalc.backward import graded
from archcalc.cli import main
from archcalc.errors import InputError
from archcalc.footprint import itemsize
from archcalc.pytorch.allocated import measure
from archcalc.pytorch.saved import saved_bytes
from archcalc.pytorch.trace import trace
from archcalc.targets import Argument, Target
from tests.test_memory import ATTENTIONS, Alive

CPU = torch.device("cpu")


class Typed(nn.Module):
    """A function of what a layer computes, which has a gradient, and of the input."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(8, 8), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.layer(x), x)


TYPED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mask": lambda y, x: y * (y > 0),
    "mask in place": lambda y, x: y.mul_(x > 0),
    "mask as numbers": lambda y, x: y * (x > 0).to(x.dtype),
    "copied mask": lambda y, x: y * (x > 0).clone(),
    "whole numbers": lambda y, x: y * (x + x).long(),
    "bytes": lambda y, x: y * (x + x).to(torch.int8),
    "rounded": lambda y, x: y + y.long(),
    "counted": lambda y, x: y * (x > 0).cumsum(-1),
    "doubles": lambda y, x: (y.double() ** 2).to(x.dtype) * y,
    "a double": lambda y, x: y * x.double(),
    "a double added": lambda y, x: (y + x.double()) * y,
    "halves": lambda y, x: (y.half() * y.half()).to(x.dtype) * y,
    "mean of doubles": lambda y, x: y.mean(dtype=torch.float64) * y,
    "softmax of doubles": lambda y, x: y.double().softmax(-1).to(x.dtype),
    "larger double": lambda y, x: torch.maximum(y.double(), y),
    "product of doubles": lambda y, x: (y.double() @ x.double().t()) @ y.double(),
    "viewed": lambda y, x: y * x.view(torch.int16).view(x.dtype),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "mixed"])
@pytest.mark.parametrize("name", TYPED)
def test_every_type_is_kept_at_its_width(name: str, dtype: str) -> None:
    module, x = Typed(TYPED[name]), torch.rand(2, 8)
    if dtype != "mixed":
        module, x = module.to(getattr(torch, dtype)), x.to(getattr(torch, dtype))
    held = ac.memory(trace(module, x), dtype="mixed" if dtype == "mixed" else None)
    assert held.dtype == dtype
    assert not held.unstated
    assert held.kept == saved_bytes(module, x, autocast=torch.bfloat16 if dtype == "mixed" else None)


def test_a_mask_by_hand() -> None:
    # Linear keeps the input only, which is apart; of the product's two factors one has a gradient, and the other is
    # kept: a mask of 2·8 numbers of one byte.
    held = ac.memory(trace(Typed(TYPED["mask"]), (2, 8)))
    assert [layer.kept for layer in held.layers] == [0, 0, 0, 16]
    # the input and the layer's output, 16 numbers of 4 bytes each; that and the mask; both and the product
    assert [layer.live for layer in held.layers] == [64, 128, 64 + 16, 64 + 16 + 64]


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_traced_in_its_own_type_keeps_what_autograd_keeps(name: str, dtype: str) -> None:
    # Of 16-bit numbers the trace has the casts between the steps, which are there where it is not fused.
    module = copy.deepcopy(ATTENTIONS[name][0]).to(getattr(torch, dtype))
    held = ac.memory(trace(module, (2, 5, 8)))
    assert not held.unstated
    assert held.kept == saved_bytes(module, torch.rand(2, 5, 8, dtype=getattr(torch, dtype)))


@pytest.mark.parametrize("name", TYPED)
def test_peak_of_inference_is_the_real_one(name: str) -> None:
    def chained(y: Tensor, x: Tensor) -> Tensor:
        return TYPED[name](y, x).long().bool()

    module, inputs = Typed(chained).eval(), [torch.rand(2, 8)]
    held = ac.memory(trace(module, (2, 8)))
    with torch.no_grad(), Alive(inputs, [*module.parameters(), *module.buffers()]) as alive:
        module.forward(inputs.pop())
    # `y` and `x` are names in the function and live as long as it runs
    assert held.peak.live <= alive.peak <= held.peak.live + 2 * 2 * 8 * 4 + 16


@pytest.mark.parametrize("name", TYPED)
def test_what_is_measured_is_computed(name: str) -> None:
    module = Typed(lambda y, x: TYPED[name](y, x) * y)
    target = Target(trace(module, (2, 8)), (Argument((2, 8)),), make=lambda: module)
    result = measure(target, ac.memory(target.report()), device=CPU)
    assert {phase.name: phase.remainder for phase in result.phases if phase.remainder} == {}


def test_whole_numbers_have_no_gradient() -> None:
    report = ac.analyze(trace(Typed(lambda y, x: y.long().double() + y.argmax() + x), (2, 8)))
    assert graded(report) == {"layer"}


class Mixed(nn.Module):
    """Parameters of three types, of which the first is the module's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(8, 8), nn.LayerNorm(8).double()
        self.turns = nn.Parameter(torch.ones(2, 8, dtype=torch.complex64))
        self.register_buffer("scale", torch.ones(8, dtype=torch.float64))

    def forward(self, x: Tensor) -> Any:
        y = self.norm(self.layer(x).double()) * self.scale
        return (torch.view_as_complex(y.float().view(2, 4, 2)) * self.turns[:, :4]).abs()


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_parameters_of_several_types(optimizer: str) -> None:
    module, x = Mixed(), torch.rand(2, 8)
    held = ac.memory(trace(module, x), optimizer=optimizer)
    # 8·8 + 8 numbers of 4 bytes, 8 + 8 of 8, 2·8 of 8
    assert held.weights == sum(one.nbytes for one in module.parameters()) == 288 + 128 + 128
    assert held.buffers == 64
    text = str(held).replace("\n", " ")
    assert "72 × 4 + 32 × 8" in text
    module(x).sum().backward()
    assert held.gradients == sum(one.grad.nbytes for one in module.parameters() if one.grad is not None)
    kinds: dict[str, Any] = {"momentum": lambda p: torch.optim.SGD(p, 0.1, 0.9), "adam": torch.optim.Adam}
    made = kinds[optimizer](module.parameters())
    made.step()
    tensors = [one for state in made.state.values() for one in state.values() if isinstance(one, Tensor)]
    assert held.state == sum(one.nbytes for one in tensors)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_type_is_by_default_the_modules(dtype: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 20, 3), nn.BatchNorm2d(20), nn.ReLU()).to(getattr(torch, dtype))
    network = trace(module, (1, 3, 8, 8))
    held = ac.memory(network, optimizer="momentum")
    assert held.dtype == network.dtype == dtype
    assert held.weights == held.gradients == held.state == sum(one.nbytes for one in module.parameters())
    assert held.buffers == sum(one.nbytes for one in module.buffers())
    assert held.inputs == 192 * torch.empty(0, dtype=getattr(torch, dtype)).element_size()
    assert ac.memory(network, dtype="float32").weights == 4 * held.weights // held.width


def test_bytes_of_a_number() -> None:
    kinds = {one for one in vars(torch).values() if isinstance(one, torch.dtype)}
    assert {one: itemsize(str(one).removeprefix("torch.")) for one in kinds} == {one: one.itemsize for one in kinds}


def test_what_a_module_without_layers_holds_is_no_workspace() -> None:
    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x.long() + 1

    target = Target(trace(Rounded(), (64, 10)), (Argument((64, 10)),), make=Rounded)
    result = measure(target, ac.memory(target.report(), optimizer="none"), device=CPU)
    # two tensors of 640 numbers of 8 bytes; the input of 640 · 4, read before, is still held; the 1 is a number of 8
    assert result["inference, peak"].measured == 2 * 5120 + 2560 + 8
    assert dict(result["inference, peak"].parts) == {"workspace": 8, "held after the last read": 2560}
    assert result["inference, peak"].remainder == 0


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["memory", *arguments])
    assert not end.value.code
    return capsys.readouterr().out


BAKED = ("torch:tests.test_memory_types:Baked", "--input", "ids=4:int64", "--input", "mask=4:float64")


class Baked(nn.Module):
    """Takes one batch only once it is traced, and has two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(10, 8), nn.Linear(32, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        x = self.table(ids).float() * mask.unsqueeze(-1)
        return self.layer(x.view(len(ids), 32).to(self.layer.weight.dtype))


def test_the_largest_batch_of_a_network_with_its_batch_baked_in(capsys: pytest.CaptureFixture[str]) -> None:
    # 80 + 64 + 2 = 146 numbers of 4 bytes and their gradients, 1,168. Each of a batch has 4 ids and a mask of 4, of 8
    # bytes; the product keeps the mask and Linear what it reads, 32 numbers: 64 + 128.
    room = 1168 + 5 * (64 + 128)
    for nbytes, batch in ((room, 5), (room - 1, 4), (1168, 0)):
        record = json.loads(shown(capsys, *BAKED, "--fits", str(nbytes), "--format", "json"))
        assert record["fits"] == {"bytes": nbytes, "batch": batch}
    assert record["training"] == 1168 + 64 + 128
    held = ac.memory(trace(Baked(), (), ids=torch.zeros(1, 4, dtype=torch.int64), mask=torch.ones(1, 4).double()))
    with pytest.raises(InputError, match="cannot take a batch of 2"):
        held.largest_batch(room)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "mixed"])
def test_a_module_is_traced_in_the_type_that_is_chosen(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--batch", "3", "--dtype", dtype, "--format", "json", "--measure", "--device", "cpu")
    record = json.loads(shown(capsys, *BAKED, *options))
    module, autocast = Baked(), torch.bfloat16 if dtype == "mixed" else None
    inputs = torch.zeros(3, 4, dtype=torch.int64), torch.ones(3, 4, dtype=torch.float64)
    if autocast is None:
        module = module.to(getattr(torch, dtype))
    # what the module casts to float32 is float32; autograd's hooks see the ids' storage as one of the inputs
    assert record["kept"] == saved_bytes(module, *inputs, autocast=autocast)
    assert record["weights"] == sum(one.nbytes for one in module.parameters())
    ((measured,),) = ([one["phases"] for one in record["measured"]],)
    assert [phase["name"] for phase in measured if phase["remainder"]] == []


def test_the_copies_of_weights_are_kept_while_training_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert "The copies are" in shown(capsys, "lenet5", "--dtype", "mixed", "--summary")
    assert "The copies are" not in shown(capsys, "lenet5", "--dtype", "mixed", "--summary", "--optimizer", "none")


def test_a_module_that_needs_data_is_not_run_at_batches_nobody_asked_for() -> None:
    class Chosen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Any:
            return self.layer(x[x.sum(-1).nonzero(as_tuple=True)])

    with pytest.warns(UserWarning, match="traced with real tensors"):
        target = Target(trace(Chosen(), (2, 4)), (Argument((2, 4)),), make=Chosen)
    with pytest.raises(InputError, match="trace it at that size with --batch"):
        target.again(batch=4)
    with pytest.raises(InputError, match="no input of chosen has a batch"):
        Target(target.network, (Argument((2, 4), batched=False),), make=Chosen).again(batch=4)


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp() * x.exp()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * (2 * x).exp() * gradients[0]


KEEPERS: dict[str, tuple[Callable[[nn.Module, Tensor], Any], int]] = {
    "torch.utils.checkpoint": (lambda layer, x: checkpoint(lambda y: layer(y).relu().exp(), x, use_reentrant=False), 3),
    "torch.autograd.Function": (lambda layer, x: Squared.apply(layer(x)), 3),
}


@pytest.mark.parametrize("name", KEEPERS)
def test_what_chooses_itself_what_backward_keeps_is_said(name: str) -> None:
    class Choosing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.layer = nn.PReLU(), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Any:
            return KEEPERS[name][0](self.layer, self.first(x))

    held = ac.memory(trace(Choosing(), (2, 8)))
    assert f"Layers that ran within {name}: {KEEPERS[name][1]}." in str(held)
    assert saved_bytes(Choosing(), torch.rand(2, 8)) < held.kept
    plain = ac.memory(trace(nn.Sequential(nn.PReLU(), nn.Linear(8, 8)), (2, 8)))
    assert "ran within" not in str(plain)
