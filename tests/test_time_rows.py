"""Rows beside the calls of a pass: every row once, what cannot be matched said, the module as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu, scaled_dot_product_attention
from torch.overrides import _len_torch_function_stack  # type: ignore[attr-defined]
from torch.utils._python_dispatch import TorchDispatchMode

from archcalc import trace
from archcalc.errors import CheckError
from archcalc.layers import Input
from archcalc.layers.operation import Constant, Parameter, Unused
from archcalc.pytorch import stopwatch
from archcalc.pytorch.calls import Calls, calls_of
from archcalc.pytorch.stopwatch import TimedNetwork
from archcalc.pytorch.subject import Settings, Subject, subject
from archcalc.pytorch.timing import measuring
from archcalc.pytorch.watch import Watch, watch
from archcalc.targets import Argument, Target, resolve
from tests.measured import CPU

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def target(module: nn.Module, shape: tuple[int, ...]) -> Target:
    return Target(trace(module, shape), (Argument(shape),), make=lambda: module)


def listened(chosen: Target, settings: Settings | None = None) -> tuple[Subject, Calls]:
    one = subject(chosen, settings or Settings(CPU))
    with measuring(one.module, one.tensors, CPU):
        return one, calls_of(one)


def timed(chosen: Target, seconds: float = 0.001) -> TimedNetwork:
    return stopwatch.time_network(chosen, device=CPU, layers=True, seconds=seconds)


def running(one: Subject) -> list[str]:
    """Names of the report's rows but for tensors that are only there."""
    return [row.name for row in one.report if not isinstance(row.node.layer, Input | Parameter | Constant | Unused)]


class Residual(nn.Module):
    """Layers, one of them called twice, and functions, alike ones one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.act = nn.ReLU()
        self.shift = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv(x)) + x + self.shift
        y = relu(relu(self.act(y)))
        y[:, 0] = 0.0
        a, b = y.flatten(2).chunk(2, -1)
        return torch.cat([a @ b.mT, a], -1).softmax(-1)


class Attends(nn.Module):
    """Calls that make several rows each: attention as a module and as a function, recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.lstm = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.attention(x, x, x)[0])
        return scaled_dot_product_attention(y, y, y) + x


class Hidden(nn.Module):
    """What an LSTM puts out besides its output is a row of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, (h, _) = self.lstm(x)
        result: Tensor = self.head(h[-1] + y[:, -1])
        return result


class Otherwise(nn.Module):
    """On real data it does not do what it was traced doing."""

    def __init__(self, real: Callable[[Tensor], Tensor], traced: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.real, self.traced = real, traced
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(x)
        x = self.traced(x) if x.is_meta else self.real(x)
        y: Tensor = self.linear(x)
        return y


class Around(nn.Module):
    """A layer that torch.nn runs as one operation, and a function."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y + x


class Fickle(nn.Module):
    """Every other pass calls a function more."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(4, 4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        y: Tensor = self.linear(x)
        return y + 1 if self.seen % 2 else y


# Every row once


@pytest.mark.parametrize("name", ["lenet5", "inception-reduced", "mlp"])
def test_a_zoo_entrys_rows_are_an_entry_each(name: str) -> None:
    one, calls = listened(resolve(name))
    assert [entry.rows[0].name for entry in calls.entries] == running(one)
    assert all(len(entry.rows) == len(entry.events) == 1 and entry.alike for entry in calls.entries)


MODULES: Sequence[tuple[nn.Module, tuple[int, ...]]] = [
    (Residual(), (2, 3, 4, 4)),
    (Attends(), (1, 3, 8)),
    (Hidden(), (1, 3, 8)),
    (nn.Linear(4, 3), (1, 4)),
    (nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), (1, 3, 8)),
    (nn.TransformerEncoderLayer(8, 2, 8), (3, 1, 8)),
    (nn.TransformerDecoderLayer(8, 2, 8), (3, 1, 8)),
    (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (1, 4)),
]


@pytest.mark.parametrize(("module", "shape"), MODULES, ids=lambda value: type(value).__name__)
def test_every_row_of_a_traced_module_is_in_one_entry(module: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = (shape, shape) if isinstance(module, nn.TransformerDecoderLayer) else (shape,)
    chosen = Target(trace(module, list(inputs)), tuple(map(Argument, inputs)), make=lambda: module)
    one, calls = listened(chosen)
    rows = [row.name for entry in calls.entries for row in entry.rows]
    assert sorted(rows) == sorted(running(one))
    places = [place for entry in calls.entries for place in entry.events]
    assert len(places) == len(set(places))
    assert all(entry.alike and entry.rows and entry.events for entry in calls.entries)


def test_rows_of_functions_are_by_the_call_that_made_them() -> None:
    _, calls = listened(target(Residual(), (2, 3, 4, 4)))
    found = [(entry.calls[0].name, len(entry.rows)) for entry in calls.entries]
    assert found[:7] == [
        ("conv", 1),
        ("act", 1),
        ("Tensor.add", 1),
        ("Tensor.add", 1),
        ("act", 1),
        ("functional.relu", 1),
        ("functional.relu", 1),
    ]
    assert dict(found)["Tensor.__setitem__"] > 1
    assert dict(found)["Tensor.matmul"] > 1


def test_a_call_of_several_rows_is_one_entry() -> None:
    one, calls = listened(target(Attends(), (1, 3, 8)))
    found = {entry.calls[0].name: entry for entry in calls.entries}
    assert list(found) == ["attention", "lstm", "functional.scaled_dot_product_attention", "Tensor.add"]
    inside = [name for name in running(one) if name.startswith("attention.")]
    assert [row.name for row in found["attention"].rows] == inside
    assert len(found["lstm"].rows) == 1


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_a_watched_module_takes_the_path_it_takes_unwatched() -> None:
    """Hooks, and modes that see functions, keep torch.nn from its fast path through a transformer's layer."""
    one, calls = listened(target(Around(), (1, 3, 8)))
    with measuring(one.module, one.tensors, CPU):
        watcher = Watch(one, calls)
        with Operations() as plain:
            one.forward()()
        with watcher.installed(), Operations() as watched:
            one.forward()()
    assert watched.names == plain.names
    assert "aten::_transformer_encoder_layer_fwd" in plain.names


# What cannot be matched


def test_other_calls_than_those_traced_are_one_entry_and_that_is_said() -> None:
    result = timed(target(Otherwise(lambda x: x.exp(), lambda x: x.tanh()), (1, 4)))
    assert [[row.name for row in one.rows] for one in result.layers] == [["relu"], ["tanh"], ["linear"]]
    assert result.strange == ("tanh were traced from other calls; here Tensor.exp did their work.",)


def test_alike_calls_that_cannot_be_told_apart_are_one_entry() -> None:
    # relu, relu, exp beside relu, exp: which relu it is nobody knows
    result = timed(target(Otherwise(lambda x: x.exp(), lambda x: relu(x).exp()), (1, 4)))
    assert [[row.name for row in one.rows] for one in result.layers] == [["relu", "relu:2"], ["exp"], ["linear"]]


def test_a_call_that_no_row_describes_is_outside_every_row() -> None:
    result = timed(target(Otherwise(lambda x: x.exp(), lambda x: x), (1, 4)))
    assert [one.name for one in result.layers] == ["relu", "linear"]
    assert [one.name for one in result.calls] == ["Tensor.exp"]
    assert result.strange[0].startswith("No row describes Tensor.exp")
    assert "it is outside every row" in result.layer_table().notes[-1]


def test_a_row_that_no_call_runs_has_no_time() -> None:
    result = timed(target(Otherwise(lambda x: x, lambda x: x.exp()), (1, 4)))
    assert [one.name for one in result.layers] == ["relu", "linear"]
    assert result.missing == ("exp",)
    assert result.layer_table().notes[-1] == "No call was seen that runs exp: in no line."


def test_a_module_that_changes_its_calls_is_refused() -> None:
    with pytest.raises(CheckError, match="fickle does not call the same functions in every pass"):
        timed(target(Fickle(), (1, 4)))


# Times


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that gives one second more each time it is asked."""
    numbers = count()
    monkeypatch.setattr("archcalc.pytorch.timing._WallClock.mark", lambda _: float(next(numbers)))


@pytest.mark.usefixtures("ticks")
def test_calls_are_timed_once_and_the_rest_is_the_pass_without_them() -> None:
    result = timed(target(Residual(), (2, 3, 4, 4)))
    n = len(result.layers)
    # each call has a mark before and one after, with nothing marked between: none lies in another
    assert all(set(one.times.seconds) == {1.0} for one in result.layers)
    assert result.watched is not None
    assert set(result.watched.seconds) == {2.0 * n + 1}
    assert set(result.outside.seconds) == {n + 1.0}


def test_samples_of_one_pass_have_one_place() -> None:
    result = timed(target(Residual(), (2, 3, 4, 4)), seconds=0.01)
    assert result.watched is not None
    assert result.unwatched is not None
    runs = {one.times.runs for one in result.layers} | {result.watched.runs, result.unwatched.runs}
    assert len(runs) == 1
    for i, whole in enumerate(result.watched.seconds):
        rows = [one.times.seconds[i] for one in result.layers]
        assert min(rows) > 0
        assert result.outside.seconds[i] == pytest.approx(whole - sum(rows))
        assert result.outside.seconds[i] > 0


def test_macs_of_the_lines_are_the_reports() -> None:
    for module, shape in MODULES[:4]:
        result = timed(target(module, shape))
        assert sum(one.macs for one in result.layers) == result.report.total.macs


def test_a_module_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Residual().train()
    before = [(part, dict(vars(part))) for part in module.modules()]
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    chosen = target(module, (2, 3, 4, 4))
    for error in (None, ValueError, KeyboardInterrupt):
        if error is not None:
            marks = count()

            def mark(_: object, marks: Any = marks, error: type[BaseException] = error) -> float:
                if next(marks) > 40:
                    raise error
                return 0.0

            monkeypatch.setattr("archcalc.pytorch.timing._WallClock.mark", mark)
        one = subject(chosen, Settings(CPU))
        with pytest.raises(error) if error else nullcontext(), measuring(module, (), CPU):
            watch(one, calls_of(one), seconds=0.001)
        assert [(part, dict(vars(part))) for part in module.modules()] == before
        assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
        assert _len_torch_function_stack() == 0


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("module", [Residual(), Attends()], ids=lambda one: type(one).__name__)
def test_rows_on_a_real_cuda_device_wait_once_a_pass(module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[torch.device] = []
    passes: list[None] = []

    def wait(device: torch.device) -> None:
        waits.append(device)
        torch.accelerator.synchronize(device)

    monkeypatch.setattr("archcalc.pytorch.timing.synchronize", wait)
    chosen = target(module, (2, 3, 4, 4) if isinstance(module, Residual) else (1, 3, 8))
    module.register_forward_hook(lambda *_: passes.append(None))
    result = stopwatch.time_network(chosen, device=torch.device("cuda"), layers=True, seconds=0.01)
    module.cpu()
    assert result.missing == result.strange == ()
    assert all(min(one.times.seconds) >= 0 for one in result.layers)
    assert min(result.outside.seconds) > 0
    assert result.watched is not None
    assert result.whole.runs + 2 * result.watched.runs < len(waits) <= len(passes)
