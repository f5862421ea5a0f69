"""A network under a machine's ceilings: the arithmetic on made-up times, the structure of a real run, bad input."""

from __future__ import annotations

import csv
import io
import itertools
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from archcalc import Network, analyze, cache, targets
from archcalc.errors import InputError, MissingPackageError
from archcalc.layers import Flatten, Linear, ReLU
from archcalc.pytorch import ceilings, roofline, room
from archcalc.pytorch.roofline import Roofline
from tests.conftest import Shell
from tests.measured import CPU, a_machine, keep, timed

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def result() -> Roofline:
    """Under 1 GMAC/s, 0.1 GB/s and 10 µs a launch.

    ReLU: 1000 read, 1000 written, 8000 bytes: 80 µs by memory. Linear: 10^6 MACs, 1 ms; 1,003,000 numbers, 40.12 ms by
    memory. Linear of 10: 10^4 MACs; 11,020 numbers, 440.8 µs by memory. Flatten: nothing.
    """
    layers = [ReLU(), Linear(1000), Flatten(), Linear(10)]
    report = analyze(Network.sequential("net", (1, 1000), layers))
    seconds = {"relu1": 1e-4, "linear1": 0.08024, "flatten1": 1e-5, "linear2": 4.408e-4}
    return Roofline(timed(report, seconds, watched=0.1, whole=0.09), a_machine())


def test_attainable_and_achieved_rates_by_hand(result: Roofline) -> None:
    relu, wide, view, narrow = result.lines
    assert (wide.macs, wide.bytes, wide.limit.by) == (10**6, 4_012_000, "memory")
    assert wide.intensity == 10**6 / 4_012_000
    assert wide.attainable == pytest.approx(10**6 / 0.04012)
    assert wide.achieved == pytest.approx(10**6 / 0.08024)
    assert wide.share == pytest.approx(0.5)
    assert narrow.share == pytest.approx(1.0)
    assert (relu.intensity, relu.attainable, relu.achieved) == (0, None, None)
    assert relu.share == pytest.approx(0.8)
    assert (view.bytes, view.intensity, view.limit.by, view.share) == (0, None, None, None)


def test_rows_and_what_is_between_them_are_the_pass(result: Roofline) -> None:
    assert result.in_layers == pytest.approx(1e-4 + 0.08024 + 1e-5 + 4.408e-4)
    assert sum(line.seconds for line in result.lines) + result.between.seconds == pytest.approx(0.1)
    assert result.total.seconds == result.watched == 0.1
    for what in ("macs", "bytes"):
        lines = (*result.lines, result.between)
        assert sum(getattr(line, what) for line in lines) == getattr(result.total, what)
    assert result.total.limit.seconds == pytest.approx(8e-5 + 0.04012 + 4.408e-4)


def test_the_gap_is_named(result: Roofline) -> None:
    # 0.0807908 s of 0.1 s
    assert "The layers take 80.8 ms, 80.8% of the pass they are timed in" in result.gap
    assert "without timers takes 90.0 ms" in result.gap


def test_layers_that_were_not_timed_are_between(result: Roofline) -> None:
    some = timed(result.timed.report, {"linear1": 0.08}, watched=0.07, whole=0.09)
    found = Roofline(some, a_machine())
    assert found.between.macs == 10**4
    assert found.between.seconds == pytest.approx(-0.01)
    assert found.between.achieved is None
    assert found.between.share is None
    assert "−10.0 ms" in found.table().to_markdown()


def test_the_table_has_a_line_a_layer(result: Roofline) -> None:
    table = result.table()
    assert [row[0] for row in table.rows] == ["relu1", "linear1", "flatten1", "linear2", "between layers"]
    assert table.rows[1][2:7] == (10**6, 4_012_000, "0.25", "0.02", "0.01")
    assert table.rows[1][-2:] == ("50.0%", "memory")
    assert table.total is not None
    assert table.total[2] == 1_010_000
    assert "1.0 GMAC/s, 0.1 GB/s, 10.0 µs a launch" in table.notes[-1]


def test_the_record_has_every_number(result: Roofline) -> None:
    record = result.to_dict()
    assert record["schema"] == "archcalc.roofline/1"
    assert record["ceilings"]["macs_per_s"] == 1e9
    assert record["layers"][1]["least_s"] == 0.04012
    assert record["total"]["median_s"] == 0.1
    assert record["environment"]["dtype"] == "float32"


# Drawing


def test_the_drawing_shows_the_roof_and_the_layers_with_macs(result: Roofline) -> None:
    pytest.importorskip("matplotlib")
    (axes,) = roofline.draw(result).axes
    roof: list[Any] = axes.lines[0].get_xydata().tolist()  # type: ignore[union-attr]
    assert roof[1] == [10.0, 1.0]  # the ridge: 10^9 MAC/s over 10^8 B/s; GMAC/s
    assert roof[2][1] == 1.0
    points = [point for one in axes.collections for point in one.get_offsets().tolist()]  # type: ignore[union-attr]
    shown = [[line.intensity, (line.achieved or 0) / 1e9] for line in result.lines[1::2]]
    assert points == [pytest.approx(one) for one in shown]
    assert {text.get_text() for text in axes.texts} == {"linear1", "linear2"}


@pytest.mark.parametrize(("format", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_the_drawing_as_a_file(result: Roofline, format: Any, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    assert roofline.drawn(result, format).startswith(start)


def test_names_do_not_lie_over_one_another(result: Roofline) -> None:
    line = result.lines[1]
    assert len(roofline._named([(line, 10.0, 1.0), (line, 11.0, 1.05), (line, 11.0, 2.0), (line, 99.0, 1.0)])) == 3


def test_without_matplotlib_it_is_said(monkeypatch: pytest.MonkeyPatch, shell: Shell, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "archcalc.plots.canvas", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError):
        roofline.require_matplotlib()
    options = ("--device", "cpu", "--output", str(tmp_path / "x.svg"))
    assert "drawing needs matplotlib" in shell.refused("roofline", "lenet5", *options)


# A real run of a small network under made-up ceilings


SMALL = ("lenet5", "--device", "cpu", "--threads", "1", "--seconds", "0.01")
RESNET = "torch:torchvision.models:resnet18"


def test_rows_are_the_reports(shell: Shell) -> None:
    keep()
    [record] = shell("roofline", *SMALL, "--batch", "2", "--format", "json").data
    report = targets.resolve("lenet5", batch="2").report()
    assert [(one["name"], one["macs"]) for one in record["layers"]] == [
        (row.name, row.macs) for row in report if row.sources
    ]
    assert record["total"]["macs"] == report.total.macs
    assert record["input"][0] == 2
    assert all(one["median_s"] > 0 for one in (*record["layers"], record["total"]))
    assert record["whole_pass_s"] > 0


@pytest.mark.parametrize("format", ["table", "markdown", "latex", "csv", "html"])
def test_formats(shell: Shell, format: str) -> None:
    keep()
    out = shell.ok("roofline", *SMALL, "--format", format)
    assert "between layers" in out
    if format == "csv":
        rows = list(csv.reader(io.StringIO(out)))
        assert rows[0][:4] == ["layer", "kind", "MACs", "bytes"]


def test_a_traced_module_has_its_functions_among_the_layers(shell: Shell) -> None:
    keep()
    [record] = shell("roofline", RESNET, "--input", "3x32x32", *SMALL[1:], "--format", "json").data
    assert [one["kind"] for one in record["layers"]].count("Add") == 8  # two a stage
    assert record["between"]["bytes"] == 0
    lines = (*record["layers"], record["between"])
    assert sum(one["bytes"] for one in lines) == record["total"]["bytes"]


@pytest.mark.parametrize("suffix", ["svg", "png", "SVG"])
def test_a_drawing_is_saved(shell: Shell, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    keep()
    file = tmp_path / f"roof.{suffix}"
    assert shell.ok("roofline", *SMALL, "--output", str(file)) == ""
    assert file.stat().st_size > 1000
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == [file.name]


def test_a_drawing_is_of_the_last_device(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    keep()
    monkeypatch.setattr("archcalc.pytorch.devices.resolve", lambda name: (torch.device("cuda"), CPU))
    shell.ok("roofline", *SMALL, "--output", str(tmp_path / "roof.svg"))


@pytest.mark.parametrize(("command", "more", "first"), [("roofline", ("--measure",), 0), ("forecast", (), 2 / 3)])
def test_progress_goes_up_to_all(
    command: str, more: tuple[str, ...], first: float, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three parts of a forecast two are kept."""
    keep()
    shares: list[float] = []

    @contextmanager
    def recorded(*, ticking: bool) -> Iterator[Any]:
        assert not ticking  # it would disturb what is measured
        yield lambda what, share: shares.append(share)

    monkeypatch.setattr(f"archcalc.cli.{command}.progress", recorded)
    monkeypatch.setattr(ceilings, "MATRICES", {"cpu": (8, 16)})
    monkeypatch.setattr(ceilings, "ARRAYS", {"cpu": (64, 128)})
    shell.ok(command, *SMALL, *more)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (first, 1)


def test_measure_measures_again(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    keep()
    again: list[bool] = []

    def machine(*_: object, again: bool, progress: object) -> Any:
        return asked(again)

    def asked(value: bool) -> Any:
        again.append(value)
        return a_machine()

    monkeypatch.setattr(roofline, "machine", machine)
    shell.ok("roofline", *SMALL)
    shell.ok("roofline", *SMALL, "--measure")
    assert again == [False, True]


# Bad input


@pytest.mark.parametrize("command", ["roofline", "forecast"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--device", "tpu"), "no device 'tpu' here: present are cpu"),
        (("--dtype", "float31"), "unknown dtype 'float31'; did you mean 'float32'"),
        (("--threads", "0"), r"threads \(=0\) must be at least 1"),
        (("--seconds", "0"), "--seconds is 0.0; it must be more than 0"),
        (("--batch", "N"), "only numbers take time, no letters"),
        (("--batch", "100000000"), r"lenet5 on 100000000×1×32×32 needs [\d,.]+ MiB in float32, and cpu has"),
    ],
)
def test_bad_input_is_one_message(shell: Shell, command: str, options: tuple[str, ...], message: str) -> None:
    keep()
    given = {"--device": "cpu", "--threads": "1", options[0]: options[1]}
    assert re.search(message, shell.refused(command, "lenet5", *itertools.chain(*given.items())))


def test_a_dtype_that_the_device_lacks(monkeypatch: pytest.MonkeyPatch, shell: Shell, folder: Path) -> None:
    def refuses(device: torch.device, dtype: torch.dtype) -> None:
        raise InputError(f"{device} cannot convolve in float16")

    monkeypatch.setattr("archcalc.pytorch.ceilings.require_dtype", refuses)
    message = shell.refused("roofline", "lenet5", "--device", "cpu", "--dtype", "float16")
    assert message == "cpu cannot convolve in float16"
    assert not folder.exists()


def test_counts_cannot_be_drawn(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "x.svg"
    assert "nothing that could be drawn" in shell.refused("roofline", "lenet5", "--counts", "--output", str(file))
    assert not file.exists()


def test_memory_that_the_cpu_has(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 100 kB\nMemAvailable:      24 kB\n")
    assert room.available_on_cpu(file) == 24 * 1024
    assert room.available_on_cpu(tmp_path / "none") is None


def test_where_memory_is_not_known_the_pass_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    report = targets.resolve("lenet5", batch="100000000").report()
    monkeypatch.setattr(room, "available", lambda device: None)
    room.require_room(report, CPU, "float32")


def test_room_is_what_the_dtype_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    report = analyze(Network.sequential("net", (1, 1000), [Linear(1000)]))
    # weights 10^6 + 1000, input and output 1000 each, 8 bytes
    monkeypatch.setattr(room, "available", lambda device: 8 * 1_003_000)
    room.require_room(report, CPU, "float64")
    monkeypatch.setattr(room, "available", lambda device: 8 * 1_003_000 - 1)
    room.require_room(report, CPU, "float32")
    with pytest.raises(InputError, match=r"net on 1×1000 needs 7\.65 MiB in float64"):
        room.require_room(report, CPU, "float64")


@pytest.mark.cuda
@needs_cuda
def test_roofline_on_a_real_cuda_device() -> None:
    device = torch.device("cuda")
    before = torch.cuda.memory_allocated()
    found = roofline.roofline(targets.resolve("lenet5"), device=device, dtype="float16", seconds=0.01)
    assert found.machine.environment["device_name"] == torch.cuda.get_device_name()
    assert all(line.seconds > 0 for line in found.lines)
    assert room.available(device)
    with pytest.raises(InputError, match=r"needs .* MiB in float32, and cuda has"):
        roofline.roofline(targets.resolve("vgg19", batch="1000000"), device=device)
    assert torch.cuda.memory_allocated() == before
