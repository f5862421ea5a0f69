"""`archcalc time`: targets in turn, layers, the profiler, training steps, settings, interrupts, bad input."""

from __future__ import annotations

import csv
import io
import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from archcalc import analyze, table, targets, zoo
from archcalc.cli.output import progress
from archcalc.errors import InputError, RoomError
from archcalc.pytorch import profiled, step, stopwatch, timing, watch
from archcalc.pytorch.subject import Settings
from archcalc.pytorch.timing import Timing
from tests.conftest import Shell
from tests.measured import CPU, timed

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
FEW = ("--device", "cpu", "--threads", "1", "--seconds", "0.01")
SMALL = ("lenet5", *FEW)
TRACED = ("torch:torchvision.models:resnet18", "--input", "3x32x32", *FEW)


def rows(network: str) -> list[str]:
    return [row.name for row in analyze(zoo.find(network).build()) if row.sources]


# Targets in turn


def test_ratios_are_to_the_first_target(shell: Shell) -> None:
    text = shell.ok("time", "lenet5", "mlp", *FEW, "--format", "csv")
    header, first, second = csv.reader(io.StringIO(text))
    lenet, mlp = (analyze(zoo.find(name).build()).total.macs for name in ("lenet5", "mlp"))
    assert header[-3:] == ["MACs ratio", "time ratio", "its IQR"]
    assert first[-3:] == ["1.00x", "1.00x", ""]
    assert second[-3] == f"{mlp / lenet:.1f}x"
    assert second[-2].endswith("x")
    assert second[-1].endswith("x")


def test_one_target_has_no_ratio(shell: Shell) -> None:
    header, _ = csv.reader(io.StringIO(shell.ok("time", *SMALL, "--format", "csv")))
    assert header[-1] == "runs"


@pytest.mark.parametrize("more", [(), ("--step",)], ids=" ".join)
def test_inputs_are_images_where_they_are(shell: Shell, more: tuple[str, ...]) -> None:
    words = "torch:torch.nn:Linear", "--set", "in_features=8", "--set", "out_features=2", "--input", "5x8"
    assert "images/s" in shell.ok("time", *SMALL, *more).splitlines()[1]
    header = shell.ok("time", *words, *FEW, *more).splitlines()[1]
    assert "inputs/s" in header
    assert "images/s" not in header


def test_a_file_is_written_as_its_name_ends(shell: Shell, tmp_path: Path) -> None:
    for name in ("times.json", "times", "times.csv"):
        shell.ok("time", *SMALL, "--output", str(tmp_path / name))
    assert json.loads((tmp_path / "times.json").read_text())[0]["network"] == "lenet5"
    assert json.loads((tmp_path / "times").read_text())[0]["network"] == "lenet5"
    assert (tmp_path / "times.csv").read_text().startswith("network,device,dtype,batch")
    shell.ok("time", *SMALL, "--output", str(tmp_path / "times"), "--format", "table")
    assert (tmp_path / "times").read_text().startswith("forward passes")


def test_ratios_by_hand() -> None:
    first, second = (timed(analyze(zoo.lenet5()), {}, watched=1, whole=1) for _ in range(2))
    vars(first).update(whole=Timing((1.0, 2.0, 4.0)), paired=True)
    vars(second).update(whole=Timing((2.0, 6.0, 4.0)), paired=True)
    # round by round 2, 3, 1: median 2, quartiles 1.5 and 2.5
    *_, ratio, spread = stopwatch.summary([first, second]).rows[1]
    assert (ratio, spread) == ("2.00×", "1.00×")
    vars(second).update(paired=False)
    unpaired = stopwatch.summary([first, second])
    # of medians: 4 / 2
    assert unpaired.rows[1][-2:] == ("2.00×", None)
    assert any("Timed one after another" in note for note in unpaired.notes)


def test_targets_that_do_not_fit_together_are_timed_one_after_another(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopwatch, "room_for_all", lambda *_: False)
    assert "Timed one after another, since memory does not hold them" in shell.ok("time", "lenet5", "mlp", *FEW)


def test_targets_that_turn_out_not_to_fit_together_too(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = stopwatch._timed, []

    def together(chosen: Any, *rest: Any) -> Any:
        asked.append(len(chosen))
        if len(chosen) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(chosen, *rest)

    monkeypatch.setattr(stopwatch, "_timed", together)
    results = stopwatch.time_networks(
        [targets.resolve("lenet5"), targets.resolve("mlp")], Settings(CPU, threads=1), seconds=0.01
    )
    assert asked == [2, 1, 1]
    assert [one.paired for one in results] == [False, False]


def test_a_network_is_measured_twice_and_that_is_reported(shell: Shell) -> None:
    [record] = shell("time", *SMALL, "--format", "json").data
    seconds = record["seconds"]
    assert len(seconds) % 2 == 0
    halves = [Timing(tuple(seconds[i::2])).median for i in (0, 1)]
    assert record["twice"]["median_s"] == halves
    assert record["twice"]["within_iqr"] == (abs(halves[0] - halves[1]) <= record["iqr_s"])
    assert "A/A" in shell.ok("time", *SMALL)


def test_a_machine_that_is_not_steady_is_said() -> None:
    result = timed(analyze(zoo.lenet5()), {}, watched=1, whole=1)
    vars(result).update(whole=Timing((1.0, 3.0, 1.0, 3.0, 2.0, 2.0)))  # 1 and 3, two apart; quartiles 1.25 and 2.75
    assert any("Apart by more than the IQR: lenet5" in note for note in stopwatch.summary([result]).notes)
    assert "2.00 s apart, more than the interquartile range of 1.50 s" in result.repeated


# Layers


def test_layers_are_the_reports_rows(shell: Shell) -> None:
    [record] = shell("time", *SMALL, "--layers", "--format", "json").data
    assert [one["name"] for one in record["layers"]] == rows("lenet5")
    assert sum(one["macs"] for one in record["layers"]) == record["macs"]
    assert (record["calls"], record["missing"]) == ([], [])
    assert all(record[name]["median_s"] > 0 for name in ("watched", "unwatched", "outside"))


@pytest.mark.parametrize(("watched", "added"), [(0.5, "nothing that can be told"), (1.5, "50.0%")])
def test_what_watching_adds(watched: float, added: str) -> None:
    result = replace(timed(analyze(zoo.lenet5()), {}, watched=watched, whole=1), unwatched=Timing((1.0,)))
    said = f"Watching adds {added} to the 1 s of passes that nobody watched, run in turn."
    assert said in " ".join(result.layer_table().notes).replace("1.00 s", "1 s")


def test_functions_of_a_module_are_among_them(shell: Shell) -> None:
    out = shell.ok("time", *TRACED, "--layers")
    assert "layer1.0.add" in out
    assert "outside every row" in out
    for said in ("Outside every row", "Watching adds", "Measured twice in turn", "archcalc roofline"):
        assert said in out


def test_medians_that_do_not_add_up_are_said() -> None:
    report = analyze(zoo.lenet5())
    result = timed(report, {"c1": 0.5, "c3": 0.25}, watched=1, whole=1)
    assert not any("add up to" in note for note in result.layer_table().notes)
    slow = (Timing((0.1, 0.1, 0.6)), Timing((0.1, 0.6, 0.1)))
    vars(result).update(watched=Timing((0.7, 0.7, 0.7)))
    for one, times in zip(result.layers, slow, strict=True):
        vars(one).update(times=times)
    # outside 0.5, 0, 0 in the three passes: 0.1 + 0.1 + 0 of 0.7
    assert any(
        "The medians of the rows add up to 28.6% of that of the pass" in note for note in result.layer_table().notes
    )


def test_layers_of_several_networks_are_one_csv_table(shell: Shell) -> None:
    text = shell.ok("time", "lenet5", "mlp", *FEW, "--layers", "--format", "csv")
    header, *lines = csv.reader(io.StringIO(text))
    assert header == ["network", "device", "layer", "kind", "rows", "MACs", "median_s", "iqr_s"]
    assert all(len(line) == len(header) for line in lines)
    for name in ("lenet5", "mlp"):
        names = [line[2] for line in lines if line[0] == name]
        assert names == [*rows(name), "outside every row", "whole pass"]
    assert all(float(line[6]) > 0 for line in lines)


# The profiler


def test_the_profiler_times_the_same_rows(shell: Shell) -> None:
    [record] = shell("time", *SMALL, "--profile", "--format", "json").data
    profile = record["profile"]
    assert list(profile["stopwatch_s"]) == list(profile["profiler_s"]) == [*rows("lenet5"), "whole pass"]
    for name, seconds in profile["profiler_s"].items():
        assert seconds >= profile["stopwatch_s"][name] > 0  # its range is around the stopwatch's marks
    out = shell.ok("time", *TRACED, "--profile")
    assert "profiler | difference" in out


def test_a_trace_is_of_the_last_device(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archcalc.pytorch.devices.resolve", lambda name: (torch.device("cuda"), CPU))
    shell.ok("time", *SMALL, "--trace", str(tmp_path / "trace.json"))


def test_the_trace_has_a_range_for_every_row(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    out = shell.ok("time", *TRACED, "--trace", str(file))
    assert "One pass more, under torch.profiler" in out
    events = json.loads(file.read_text())["traceEvents"]
    ranges = [one["name"] for one in events if one.get("cat") == "user_annotation"]
    report = targets.resolve(TRACED[0], inputs=["3x32x32"]).report()
    assert set(ranges) >= {row.name for row in report if row.sources} | {"whole pass"}
    assert {"aten::conv2d", "aten::add_"} <= {one["name"] for one in events if one.get("cat") == "cpu_op"}
    assert [one.name for one in tmp_path.iterdir()] == ["trace.json"]


def test_kernels_are_counted_once() -> None:
    def event(durations: dict[str, float], *children: Any) -> Any:
        kernels = [SimpleNamespace(name=name, duration=duration) for name, duration in durations.items()]
        return SimpleNamespace(kernels=kernels, cpu_children=children)

    conv = event({"conv1": 9.0}, event({}, event({"gemm": 5.0, "bias": 1.0})))
    whole = event({"whole pass": 20.0}, conv, event({"relu": 2.0}))
    assert profiled.kernels(conv, {"conv1", "whole pass"}) == 6.0
    assert profiled.kernels(whole, {"conv1", "whole pass"}) == 8.0


def test_a_trace_that_cannot_be_written_changes_nothing(shell: Shell, tmp_path: Path) -> None:
    assert "cannot write" in shell.refused("time", *SMALL, "--trace", str(tmp_path / "no" / "trace.json"))
    assert list(tmp_path.iterdir()) == []


# Training steps


def test_parts_of_a_training_step(shell: Shell) -> None:
    [record] = shell("time", *SMALL, "--step", "--optimizer", "adam", "--format", "json").data
    forward, backward, optimizer = record["parts"]
    assert [one["name"] for one in record["parts"]] == ["forward", "backward", "optimizer"]
    assert all(one["median_s"] > 0 for one in record["parts"])
    assert forward["macs"] == analyze(zoo.lenet5()).total.macs
    assert forward["macs"] < backward["macs"] < 2 * forward["macs"]  # no gradient of the image
    assert optimizer["macs"] is None
    assert record["backward_to_forward"]["macs"] == backward["macs"] / forward["macs"]


def test_backward_of_two_linear_layers_by_hand() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    result = a_step(module, (4, 3))
    # forward 4·3·5 + 4·5·2; the first layer has its weights' gradient alone, the second both
    assert result.macs == {"forward": 100, "backward": 60 + 2 * 40}


def a_step(module: torch.nn.Module, shape: tuple[int, ...], optimizer: str = "sgd") -> step.TimedStep:
    from archcalc import trace
    from archcalc.targets import Argument, Target

    chosen = Target(trace(module, shape), (Argument(shape),), make=lambda: module)
    return step.time_steps([chosen], Settings(CPU, threads=1), optimizer=optimizer, seconds=0.001)[0]


@pytest.mark.parametrize("optimizer", step.OPTIMIZERS)
def test_the_users_module_is_not_trained(optimizer: str) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    a_step(module, (2, 1, 5, 5), optimizer)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part.training for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_step_trains() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    seen: list[tuple[bool, bool]] = []
    module[1].register_forward_hook(lambda part, given, result: seen.append((part.training, result.requires_grad)))
    a_step(module, (1, 2))
    assert set(seen[-5:]) == {(True, True)}  # the first was to trace it


def test_parts_make_up_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr("archcalc.pytorch.timing._WallClock.mark", lambda _: float(next(ticks)))
    result = a_step(torch.nn.Linear(2, 2), (1, 2))
    # a mark before and after the step, four in it: five ticks, three of them parts
    assert set(result.whole.seconds) == {5.0}
    assert [set(one.seconds) for one in result.parts.values()] == [{1.0}] * 3


def test_a_step_of_several_networks_is_one_table(shell: Shell) -> None:
    lines = list(csv.reader(io.StringIO(shell.ok("time", "lenet5", "mlp", *FEW, "--step", "--format", "csv"))))
    assert [line[:2] for line in lines[1:]] == [
        [name, part] for name in ("lenet5", "mlp") for part in ("forward", "backward", "optimizer", "step")
    ]
    assert "lenet5: backward is" in shell.ok("time", *SMALL, "--step")


def test_a_step_without_anything_to_train() -> None:
    with pytest.raises(InputError, match="relu has no parameter to train"):
        a_step(torch.nn.ReLU(), (1, 2))


def test_a_step_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.autograd, "backward", fails)
    with pytest.raises(InputError, match="out of memory on cpu"):
        a_step(torch.nn.Linear(2, 2), (1, 2))


@pytest.mark.parametrize("how", ["passes", "layers", "steps"])
def test_what_did_not_fit_is_let_go(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Also while the error is still at hand."""
    made: list[weakref.ref[torch.nn.Module]] = []
    real = timing.prepare

    def prepare(module: torch.nn.Module, **options: Any) -> torch.nn.Module:
        made.append(weakref.ref(module))
        return real(module, **options)

    def fails(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(timing, "prepare", prepare)
    monkeypatch.setattr(step if how == "steps" else watch if how == "layers" else stopwatch, "interleaved", fails)
    chosen = [targets.resolve("lenet5")] * (2 if how == "passes" else 1)
    timed: Any = step.time_steps if how == "steps" else partial(stopwatch.time_networks, layers=how == "layers")
    with pytest.raises(RoomError, match="out of memory on cpu") as error:
        timed(chosen, Settings(CPU), seconds=0.01)
    assert made
    assert [one() for one in made] == [None] * len(made), error


# Settings


def test_settings_are_named_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(torch.device("cuda"), channels_last=True, compiled=True, tf32=True)
    settings.check()
    assert settings.label == "float32, TF32, channels last, compiled"
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    switches = [matmul, cudnn.conv, cudnn.rnn]
    before = [one.fp32_precision for one in switches]
    for tf32 in (True, False):
        with Settings(torch.device("cuda"), tf32=tf32).applied():
            assert [one.fp32_precision == "tf32" for one in switches] == [tf32] * 3
            older = (matmul.allow_tf32, cudnn.allow_tf32, torch.get_float32_matmul_precision() == "high")
            assert older == (tf32,) * 3  # torch.compile reads these: they fail where the newer ones alone were set
        assert [one.fp32_precision for one in switches] == before
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, True)


def test_a_compiled_module_is_timed(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []

    def compile(module: torch.nn.Module) -> torch.nn.Module:
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", compile)
    [record] = shell("time", *SMALL, "--compile", "--format", "json").data
    assert record["settings"] == "float32, compiled"
    assert len(compiled) == 1


@pytest.mark.filterwarnings("ignore")
def test_more_networks_are_compiled_than_torch_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share the code of a pass, which by itself is compiled eight times at most."""
    graphs: list[object] = []

    def backend(graph: Any, inputs: object) -> Any:
        graphs.append(graph)
        return graph.forward

    real: Any = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: real(module, backend=backend))
    chosen = [targets.resolve("mlp", [f"classes={classes}"]) for classes in range(2, 12)]
    stopwatch.time_networks(chosen, Settings(CPU, compiled=True, threads=1), seconds=0.001)
    assert len(graphs) == 10


def test_a_compiler_that_is_missing_is_one_message(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(module: torch.nn.Module) -> Any:
        def run(*_: object) -> None:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1")

        return run

    monkeypatch.setattr(torch, "compile", compile)
    message = shell.refused("time", *SMALL, "--compile")
    assert message == "torch.compile failed on lenet5: InvalidCxxCompiler: No working C++ compiler found"


@pytest.mark.parametrize("more", [(), ("--step",)])
def test_a_library_without_memory_is_no_fault_of_the_module(
    more: tuple[str, ...], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    monkeypatch.setattr(torch.nn.AvgPool2d, "forward", fails)
    message = shell.refused("time", *SMALL, *more)
    assert message == "out of memory on cpu: a smaller batch or input may fit"


def test_a_device_that_the_profiler_does_not_see(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiled, "supported_activities", set)
    message = shell.refused("time", *SMALL, "--profile")
    assert message == "torch.profiler does not see what runs on cpu: leave out --profile and --trace"


REFUSED = [
    (("--tf32",), "TF32 is a way CUDA devices multiply float32 numbers; cpu has none"),
    (("--compile", "--layers"), "a compiled pass has no layers that could be timed"),
    (("--compile", "--profile"), "a compiled pass has no layers that could be timed"),
    (("--step", "--layers"), "a training step is timed as a whole"),
    (("--step", "--trace", "x.json"), "a training step is timed as a whole"),
    (("--optimizer", "adam"), "--optimizer is of a training step: add --step"),
    (("--step", "--optimizer", "adagrad"), "unknown optimizer 'adagrad'; there are: sgd, momentum, adam, adamw"),
    (("--trace", "x.json", "--output", "x.json"), "--trace and --output both write x.json"),
    (("mlp", "--trace", "x.json"), "--trace is of one network: give one"),
    (("--dtype", "float31"), "unknown dtype 'float31'; did you mean 'float32'"),
    (("--seconds", "0"), "--seconds is 0.0; it must be more than 0"),
    (("--threads", "0"), "threads (=0) must be at least 1"),
    (("--device", "cuda:7"), "no device 'cuda:7' here"),
    (("--batch", "N"), "a torch module needs an input shape of whole numbers"),
    (("--batch", "100000000"), "MiB in float32, and cpu has"),
    (("--step", "--batch", "100000000"), "MiB in float32, and cpu has"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda value: " ".join(value)[:30])
def test_bad_input_is_one_message(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = () if options[0] == "--device" else ("--device", "cpu")
    assert message in shell.refused("time", "lenet5", *given, *options)
    assert list(tmp_path.iterdir()) == []


def test_a_dtype_that_the_device_lacks(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(device: torch.device, dtype: torch.dtype) -> None:
        raise InputError(f"{device} cannot convolve in float16")

    monkeypatch.setattr("archcalc.pytorch.timing.require_dtype", refuses)
    for more in ((), ("--layers",), ("--step",)):
        assert shell.refused("time", *SMALL, "--dtype", "float16", *more) == "cpu cannot convolve in float16"


# Interrupts and progress


@pytest.mark.parametrize("more", [(), ("--layers",), ("--profile",), ("--step",)], ids=" ".join)
def test_ctrl_c_leaves_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: tuple[str, ...]
) -> None:
    marks = iter(range(15))

    def mark(_: object) -> float:
        if next(marks, None) is None:
            raise KeyboardInterrupt
        return 0.0

    monkeypatch.setattr("archcalc.pytorch.timing._WallClock.mark", mark)
    ran = shell("time", *SMALL, *more, "--output", str(tmp_path / "times.json"))
    assert (ran.status, ran.out, ran.err) == (130, "", "archcalc: stopped\n")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_before_the_command_has_begun(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("archcalc.cli.app", interrupted)
    ran = shell("time", *SMALL)
    assert (ran.status, ran.err) == (130, "archcalc: stopped\n")


@pytest.mark.parametrize("more", [(), ("--layers",), ("--step",)], ids=" ".join)
def test_progress_goes_from_nothing_to_all(
    monkeypatch: pytest.MonkeyPatch, shell: Shell, more: tuple[str, ...]
) -> None:
    from contextlib import contextmanager

    shares: list[float] = []

    @contextmanager
    def recorded(**_: object) -> Iterator[Any]:
        yield lambda what, share: shares.append(share)

    monkeypatch.setattr("archcalc.cli.timing.progress", recorded)
    shell.ok("time", "lenet5", "mlp", *FEW, *more)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)


def test_the_bar_is_redrawn_when_told_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    made = table.progress(ticking=False)
    assert not made.live.auto_refresh
    monkeypatch.setattr(table, "progress", lambda **_: made)
    with progress(ticking=False) as show:
        show("lenet5", 0.25)
        assert (made.tasks[0].completed, made.tasks[0].total) == (0.25, 1.0)
        assert made.tasks[0].description == "lenet5"
        show("mlp")
        assert made.tasks[0].description == "mlp"


# On a device


@pytest.mark.cuda
@needs_cuda
def test_everything_on_a_real_cuda_device(shell: Shell, tmp_path: Path) -> None:
    few = ("--device", "cuda", "--seconds", "0.01", "--format", "json")
    for more in (("--tf32",), ("--no-tf32",), ("--dtype", "bfloat16"), ("--dtype", "float16", "--channels-last")):
        [record] = shell("time", "resnet20", *few, *more).data
        assert record["environment"]["tf32_conv"] == record["environment"]["tf32_matmul"] or "tf32" not in more[0]
    [record] = shell("time", "resnet20", *few, "--layers", "--trace", str(tmp_path / "x.json")).data
    assert all(one["median_s"] >= 0 for one in record["layers"])
    assert record["profile"]["profiler_s"]["whole pass"] > 0
    kinds = {one.get("cat") for one in json.loads((tmp_path / "x.json").read_text())["traceEvents"]}
    assert "kernel" in kinds
    for optimizer in step.OPTIMIZERS:
        [record] = shell("time", "resnet20", *few, "--step", "--optimizer", optimizer).data
        assert all(one["median_s"] > 0 for one in record["parts"])


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("more", [(), ("--layers",), ("--step",)], ids=" ".join)
def test_what_does_not_fit_a_real_cuda_device(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    before = torch.cuda.memory_allocated()
    for known in (True, False):
        if not known:
            monkeypatch.setattr("archcalc.pytorch.room.available", lambda device: None)
        message = shell.refused("time", "vgg19", "--batch", "100000", "--device", "cuda", *more)
        assert "a smaller batch or input may fit" in message
        assert torch.cuda.memory_allocated() == before


@pytest.mark.cuda
@needs_cuda
def test_targets_that_a_real_cuda_device_does_not_hold_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = stopwatch._timed

    def together(chosen: Any, *rest: Any) -> Any:
        asked.append(len(chosen))
        if len(chosen) > 1:
            torch.empty(2**50, device="cuda")
        return real(chosen, *rest)

    monkeypatch.setattr(stopwatch, "_timed", together)
    chosen = [targets.resolve("resnet20"), targets.resolve("resnet20")]
    stopwatch.time_networks(chosen, Settings(torch.device("cuda")), seconds=0.01)
    assert asked == [2, 1, 1]
