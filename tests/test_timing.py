import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from archcalc.errors import InputError, UnknownNameError
from archcalc.pytorch.timing import Timing, interleaved, prepare, threads, time_forward, time_layers

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Net(nn.Module):
    """A shared layer, one that is never called, and a count of the passes that does not survive a timing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.body = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
        self.unused = nn.Linear(2, 2)
        self.fails = False
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((self.training, torch.is_inference_mode_enabled()))
        y: Tensor = self.body(self.conv(self.conv(x)))
        if self.fails:
            raise ValueError("mine")
        return y


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    module = Net().train()
    module.body.eval()
    return module


X = torch.ones(2, 3, 8, 8)


def hooks(module: nn.Module) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in module.modules())


def modes(module: nn.Module) -> list[bool]:
    return [one.training for one in module.modules()]


def test_median_and_quartiles_by_hand() -> None:
    # sorted: 1 2 3 4 10; the quartiles stand at positions 1 and 3: 2 and 4
    timing = Timing((3.0, 1.0, 10.0, 2.0, 4.0))
    assert (timing.runs, timing.median, timing.iqr) == (5, 3.0, 2.0)


def test_quartiles_between_samples() -> None:
    # positions 0.75 and 2.25 of 1 2 3 4: 1.75 and 3.25
    timing = Timing((1.0, 2.0, 3.0, 4.0))
    assert (timing.median, timing.iqr) == (2.5, 1.5)


def test_one_sample_has_no_spread() -> None:
    assert (Timing((0.25,)).median, Timing((0.25,)).iqr) == (0.25, 0.0)


def test_images_per_second_is_the_batch_over_the_median() -> None:
    assert Timing((0.25, 0.5, 1.0)).images_per_second(8) == 16.0


def test_halves_are_every_other_sample() -> None:
    first, second = Timing((1.0, 2.0, 3.0, 4.0)).halves
    assert (first.seconds, second.seconds) == ((1.0, 3.0), (2.0, 4.0))


def test_a_network_repeats_where_its_halves_are_within_the_spread() -> None:
    # medians 2 and 3; quartiles 1.75 and 3.25
    assert Timing((1.0, 2.0, 3.0, 4.0)).repeats
    # medians 1 and 3; sorted 1 1 2 2 3 3, quartiles 1.25 and 2.75
    assert not Timing((1.0, 3.0, 1.0, 3.0, 2.0, 2.0)).repeats


def test_ratios_are_of_samples_of_one_round() -> None:
    # 2, 3, 1: median 2, quartiles 1.5 and 2.5; the medians' own ratio is 4/2
    assert Timing((2.0, 6.0, 4.0)).ratio_to(Timing((1.0, 2.0, 4.0))) == (2.0, 1.0)
    with pytest.raises(ValueError, match="zip"):
        Timing((1.0,)).ratio_to(Timing((1.0, 2.0)))


def test_what_is_left_is_taken_pass_by_pass() -> None:
    assert Timing((5.0, 9.0)).minus(Timing((1.0, 5.0)), Timing((2.0, 3.0))).seconds == (2.0, 1.0)


def test_passes_are_timed_in_rounds() -> None:
    called: list[str] = []
    shares: list[float] = []

    @contextmanager
    def inside() -> Iterator[None]:
        called.append("in")
        yield
        called.append("out")

    first, second = interleaved(
        [lambda: called.append("a"), lambda: called.append("b")],
        CPU,
        within=[nullcontext, inside],
        min_seconds=0,
        min_runs=5,
        warmup=1,
        shortest=0,
        progress=shares.append,
    )
    assert first.runs == second.runs == 6  # an even number
    rounds = "".join(called[-24:]).replace("inbout", "B").replace("a", "A")
    assert all(sorted(rounds[i : i + 2]) == ["A", "B"] for i in range(0, 12, 2))
    assert {rounds[i : i + 2] for i in range(0, 12, 2)} == {"AB", "BA"}  # in an order that changes
    assert shares == [(i + 1) / 6 for i in range(6)]


def test_short_passes_are_repeated_until_the_clock_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[None] = []
    now = iter(range(10**6))
    monkeypatch.setattr("archcalc.pytorch.timing.perf_counter", lambda: 0.25 * next(now))
    # a warm-up pass takes 0.25 s: a sample of 1 s is four passes, which take 0.25 s together by this clock
    (timing,) = interleaved([lambda: called.append(None)], CPU, min_seconds=0, min_runs=2, warmup=1, shortest=1.0)
    assert timing.seconds == (0.0625, 0.0625)
    assert len(called[-8:]) == 8
    assert (len(called) - 8) in (1, 2, 3, 4)


def test_garbage_is_collected_again_after_an_exception() -> None:
    def fails() -> None:
        raise ValueError("mine" if gc.isenabled() else "not collecting")

    def runs() -> None:
        if not gc.isenabled():
            fails()

    with pytest.raises(ValueError, match="not collecting"):
        interleaved([runs], CPU, min_seconds=0)
    assert gc.isenabled()


def test_samples_are_positive_and_as_many_as_asked(net: Net) -> None:
    timing = time_forward(net, (X,), min_seconds=0.0, min_runs=7, warmup=2)
    assert timing.runs >= 7
    assert all(seconds > 0 for seconds in timing.seconds)


def test_passes_run_in_eval_and_inference_mode(net: Net) -> None:
    time_forward(net, (X,), min_seconds=0.0, min_runs=1, warmup=1)
    time_layers(net, (X,), ["conv"], runs=1)
    assert set(net.seen) == {(False, True)}


def test_the_module_is_as_it_was(net: Net) -> None:
    before = modes(net)
    time_forward(net, (X,), min_seconds=0.0, min_runs=1, warmup=1)
    time_layers(net, (X,), ["conv", "body.0"], runs=1)
    assert modes(net) == before
    assert hooks(net) == 0


def test_the_module_is_as_it_was_after_an_exception(net: Net) -> None:
    before = modes(net)
    net.fails = True
    with pytest.raises(ValueError, match="mine"):
        time_forward(net, (X,), min_seconds=0.0)
    with pytest.raises(ValueError, match="mine"):
        time_layers(net, (X,), ["conv", "body"], runs=2)
    assert modes(net) == before
    assert hooks(net) == 0
    assert not torch.is_inference_mode_enabled()


def test_each_named_layer_has_one_sample_a_pass(net: Net) -> None:
    timings = time_layers(net, (X,), ["body", "conv", "body.1", ""], runs=4)
    assert list(timings) == ["body", "conv", "body.1", ""]
    assert all(timing.runs == 4 and min(timing.seconds) > 0 for timing in timings.values())


def test_calls_of_one_layer_are_added_up(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10_000))
    monkeypatch.setattr("archcalc.pytorch.timing._WallClock.mark", lambda _: float(next(ticks)))
    timings = time_layers(net, (X,), ["conv", "body.0", "body"], runs=2)
    # every mark is one tick: conv twice one tick; body.0 one; body holds the two marks of body.0: three
    assert {name: timing.seconds for name, timing in timings.items()} == {
        "conv": (2.0, 2.0),
        "body.0": (1.0, 1.0),
        "body": (3.0, 3.0),
    }


def test_a_layer_that_is_not_called_has_no_entry(net: Net) -> None:
    assert list(time_layers(net, (X,), ["unused", "conv"], runs=1)) == ["conv"]


def test_an_unknown_layer_is_named_with_those_there_are(net: Net) -> None:
    with pytest.raises(UnknownNameError, match=r"Net has no submodule 'convv': there are conv"):
        time_layers(net, (X,), ["convv"], runs=1)
    with pytest.raises(UnknownNameError, match=r"'zzz': there are conv, body, body\.0, body\.1, unused"):
        time_layers(net, (X,), ["zzz"], runs=1)


def test_out_of_memory_is_an_input_error_and_restores_the_module(net: Net) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    net.conv.register_forward_hook(fail)
    before = modes(net)
    with pytest.raises(InputError, match=r"^out of memory on cpu"):
        time_forward(net, (X,))
    with pytest.raises(InputError, match=r"^out of memory on cpu"):
        time_layers(net, (X,), ["body"])
    assert modes(net) == before
    assert hooks(net) == 1


def test_prepare_moves_the_module_itself(net: Net) -> None:
    assert prepare(net, device=CPU, dtype=torch.float64, channels_last=True) is net
    assert net.conv.weight.dtype == torch.float64
    assert net.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_layers_tell_how_far_they_are(net: Net) -> None:
    shares: list[float] = []
    time_layers(net, (X,), ["conv"], runs=4, progress=shares.append)
    assert shares == [0, 0.25, 0.5, 0.75]


def test_prepare_leaves_weights_of_five_axes_as_they_lie() -> None:
    prepare(module := nn.Conv3d(3, 4, 3), device=CPU, channels_last=True)
    assert module.weight.is_contiguous()


def test_prepare_refuses_integers(net: Net) -> None:
    with pytest.raises(InputError, match=r"^cpu cannot convolve in int64$"):
        prepare(net, device=CPU, dtype=torch.int64)


def test_prepare_refuses_a_dtype_before_it_touches_the_module(net: Net) -> None:
    with pytest.raises(InputError, match=r"^cpu cannot convolve in float8_e5m2$"):
        prepare(net, device=CPU, dtype=torch.float8_e5m2)
    assert net.conv.weight.dtype == torch.float32


def test_threads_are_set_and_restored() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    def fail() -> None:
        seen.append(torch.get_num_threads())
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), threads(before + 1):
        fail()
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_threads_below_one_are_refused() -> None:
    with pytest.raises(InputError, match=r"threads \(=0\) must be at least 1"), threads(0):
        pass


def test_accelerator_passes_are_timed_by_events_with_one_synchronisation(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accelerator's path, driven on the CPU with events that count."""
    log: list[str] = []

    class Event:
        def __init__(self, *, device: str, enable_timing: bool) -> None:
            assert (device, enable_timing) == ("cuda", True)

        def record(self, stream: object) -> None:
            log.append("mark")

        def elapsed_time(self, other: "Event") -> float:
            assert log[-1] == "sync"
            return 5.0  # milliseconds

    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: None)
    monkeypatch.setattr("archcalc.pytorch.timing.synchronize", lambda device: log.append("sync"))
    monkeypatch.setattr("archcalc.pytorch.timing.device_of", lambda module, inputs: torch.device("cuda"))
    assert time_forward(net, (X,), min_seconds=0.0, min_runs=4).seconds == (0.005, 0.005, 0.005, 0.005)
    assert log[-12:] == ["mark", "mark", "sync"] * 4
    assert time_layers(net, (X,), ["conv"], runs=2)["conv"].seconds == (0.01, 0.01)
    assert log[-10:] == (["mark"] * 4 + ["sync"]) * 2


@pytest.mark.cuda
@needs_cuda
def test_times_on_a_real_cuda_device(net: Net) -> None:
    device = torch.device("cuda")
    prepare(net, device=device, dtype=torch.float16, channels_last=True)
    x = X.to(device, torch.float16, memory_format=torch.channels_last)
    timing = time_forward(net, (x,), min_seconds=0.0, min_runs=7)
    assert timing.runs == 8  # an even number
    assert min(timing.seconds) > 0
    layers = time_layers(net, (x,), ["conv", "body"], runs=3)
    assert all(one.runs == 3 and min(one.seconds) > 0 for one in layers.values())
    assert hooks(net) == 0


@pytest.mark.cuda
@needs_cuda
def test_a_pass_too_large_for_a_real_cuda_device() -> None:
    device = torch.device("cuda")
    before = torch.cuda.memory_allocated()
    wide = nn.Sequential(nn.ZeroPad2d(2**12), nn.ZeroPad2d(2**19))  # 256 MiB, then 4 TiB
    with pytest.raises(InputError, match="out of memory on cuda"):
        time_forward(wide, (torch.ones(1, 1, 2, 2, device=device),))
    assert torch.cuda.memory_allocated() == before
