"""Ceilings of a machine: what follows from samples, what is kept, what is left out. No test asserts a time."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from archcalc import cache
from archcalc.errors import InputError
from archcalc.pytorch import calibration, ceilings
from archcalc.pytorch.ceilings import Sample
from tests.measured import CPU, SAMPLES, a_machine, facts, keep

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


# What follows from samples


def test_rates_by_hand() -> None:
    # 1000³ MACs in 1 s; a copy moves twice its 10^8 bytes, a triad three times
    assert [sample.rate for sample in SAMPLES[:4]] == [1e9, 8e8, 0.5e8, 1e8]


def test_ceilings_are_the_best_of_all_sizes() -> None:
    best = a_machine().ceilings
    assert (best.macs_per_second, best.bytes_per_second, best.launch) == (1e9, 1e8, 1e-5)


def test_the_table_marks_the_ceilings() -> None:
    rows = a_machine().table().rows
    assert [row[0] for row in rows] == [sample.ceiling for sample in SAMPLES]
    assert [row[-1] for row in rows] == ["ceiling", None, None, "ceiling", "ceiling"]
    assert rows[0][1:4] == ("1000×1000", "1.00 s", "1.0 GMAC/s")


# Measuring


def test_every_ceiling_is_measured_at_every_size() -> None:
    samples = list(ceilings.measure(CPU, torch.float32, matrices=(4, 8), arrays=(512, 1024), seconds=0.0))
    assert [(one.ceiling, one.size) for one in samples] == [
        *(("matrix product", 4), ("matrix product", 8)),
        *(("copy", 512), ("copy", 1024)),
        *(("triad", 512), ("triad", 1024)),
        ("launch", 1),
    ]
    assert all(one.seconds > 0 for one in samples)


@pytest.mark.parametrize("ceiling", ["matrix product", "copy", "triad", "launch"])
def test_what_is_measured_computes_what_it_says(ceiling: Any) -> None:
    tensors = ceilings._operands(ceiling, 8, CPU, torch.float64)
    assert all(tensor.nbytes == {"matrix product": 8 * 64, "launch": 8}.get(ceiling, 8) for tensor in tensors)
    output = ceilings._Operation(ceiling)(*tensors)
    assert output is tensors[-1]
    first, second = tensors[:2]
    assert torch.equal(output, {"matrix product": first @ second, "copy": first}.get(ceiling, first + 3 * second))


def given(monkeypatch: pytest.MonkeyPatch, seconds: Any) -> list[Sample]:
    """Samples of sizes 10, 20 and 40 whose times a function says."""
    monkeypatch.setattr(ceilings, "_seconds", lambda ceiling, size, *_: seconds(ceiling, size))
    return list(ceilings.measure(CPU, torch.float32, matrices=(10, 20, 40), arrays=(10, 20, 40)))


def test_sizes_that_would_take_too_long_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # a product of twice the rows takes eight times as long: 0.02 s, 0.16 s, then 1.28 s; arrays twice: 0.02 to 0.08 s
    samples = given(monkeypatch, lambda ceiling, size: 0.02 * (size / 10) ** (3 if ceiling == "matrix product" else 1))
    sizes = [(one.ceiling, one.size) for one in samples]
    assert [size for ceiling, size in sizes if ceiling == "matrix product"] == [10, 20]
    assert [size for ceiling, size in sizes if ceiling == "copy"] == [10, 20, 40]


def test_sizes_that_do_not_fit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(ceiling: str, size: int) -> float:
        if size > 10:
            raise InputError("out of memory on cpu")
        return 1e-6

    assert [one.size for one in given(monkeypatch, seconds)] == [10, 10, 10, 1]


def test_a_smallest_size_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(ceiling: str, size: int) -> float:
        raise InputError("out of memory on cpu")

    with pytest.raises(InputError, match="out of memory"):
        given(monkeypatch, seconds)


def test_memory_that_is_too_small_is_caught() -> None:
    with pytest.raises(InputError, match="out of memory on cpu"):
        list(ceilings.measure(CPU, torch.float32, matrices=(2**26,)))


def test_a_dtype_that_the_device_lacks() -> None:
    with pytest.raises(InputError, match=r"^cpu cannot convolve in int8$"):
        ceilings.machine(CPU, torch.int8)


# What is kept


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A device that gives the made-up samples and counts how often it was asked."""
    asked: list[str] = []

    def measure(device: torch.device, dtype: torch.dtype, *, progress: Any) -> Iterator[Sample]:
        asked.append(str(dtype))
        yield from SAMPLES

    monkeypatch.setattr(ceilings, "measure", measure)
    return asked


def test_ceilings_are_measured_once(measured: list[str]) -> None:
    first = ceilings.machine(CPU, torch.float32)
    assert ceilings.machine(CPU, torch.float32) == first == a_machine()
    assert measured == ["torch.float32"]


def test_ceilings_are_measured_again_where_asked_or_where_the_environment_differs(measured: list[str]) -> None:
    ceilings.machine(CPU, torch.float32)
    ceilings.machine(CPU, torch.float32, again=True)
    ceilings.machine(CPU, torch.bfloat16)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert ceilings.machine(CPU, torch.float32).environment["threads"] == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert len(measured) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\x00",
        '{"schema": "archcalc.ceilings/1"}',
        *(None, "samples", "seconds", "nothing", "schema", "environment"),
    ],
)
def test_a_file_that_is_not_whole_is_measured_anew(text: str | None, measured: list[str]) -> None:
    ceilings.machine(CPU, torch.float32)
    file = cache.place(ceilings.SCHEMA, facts())
    record = json.loads(file.read_text())
    damage: dict[str | None, dict[str, Any]] = {
        None: {"samples": record["samples"][:2]},
        "samples": {"samples": None},
        "seconds": {"samples": [{**record["samples"][0], "median_s": 0.0}, *record["samples"][1:]]},
        "nothing": {"samples": []},
        "schema": {"schema": "archcalc.ceilings/0"},
        "environment": {"environment": {}},
    }
    file.write_text(json.dumps({**record, **damage[text]}) if text in damage else str(text))
    assert ceilings.machine(CPU, torch.float32) == a_machine()
    assert len(measured) == 2


def test_ctrl_c_while_measuring_keeps_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def interrupted(*_: object, **__: object) -> Iterator[Sample]:
        yield SAMPLES[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(ceilings, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ceilings.machine(CPU, torch.float32)
    assert not folder.exists()


def test_ctrl_c_while_writing_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    keep()
    before = {file: file.read_bytes() for file in folder.iterdir()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.save({**a_machine().to_dict(), "macs_per_s": 0})
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="cannot keep what was measured in .*below"):
        assert ceilings.machine(CPU, torch.float32) == a_machine()


def test_the_platforms_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("a", "b")))
    assert cache.folder() == Path("a", "b", "archcalc")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == Path.home() / ".cache" / "archcalc"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.folder() == Path.home() / "Library" / "Caches" / "archcalc"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "local")
    assert cache.folder() == Path("local", "archcalc", "Cache")


def test_ceilings_and_calibrations_have_files_of_their_own(folder: Path) -> None:
    keep()
    assert sorted(file.name.partition("-")[0] for file in folder.iterdir()) == ["calibration", "ceilings"]
    assert cache.load(calibration.SCHEMA, facts(threads=1)) is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.load(calibration.SCHEMA, facts(threads=10**6)) is None


@pytest.mark.cuda
@needs_cuda
def test_ceilings_of_a_real_cuda_device() -> None:
    device = torch.device("cuda")
    before = torch.cuda.memory_allocated()
    samples = list(ceilings.measure(device, torch.float16, matrices=(64, 128), arrays=(2**20,), seconds=0.0))
    assert [one.ceiling for one in samples] == ["matrix product", "matrix product", "copy", "triad", "launch"]
    assert all(one.seconds > 0 for one in samples)
    assert torch.cuda.memory_allocated() == before
    with pytest.raises(InputError, match="out of memory on cuda"):
        list(ceilings.measure(device, torch.float32, matrices=(2**22,), arrays=(2**20,)))
    assert torch.cuda.memory_allocated() == before
