"""Forecasts: factors that are known before they are fitted, predictions by hand, the grid, bad input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from archcalc import Network, analyze, cache, layers, targets, zoo
from archcalc.analysis import Row
from archcalc.errors import ArchcalcError
from archcalc.graph import Builder
from archcalc.layers import Flatten, Layer, Linear, ReLU
from archcalc.pytorch import calibration, forecast
from archcalc.pytorch.calibration import GRID, Calibrated
from archcalc.pytorch.forecast import Family, Features, Forecast, Model, family, features, fit, fitted
from archcalc.roofline import Ceilings
from tests.conftest import Shell
from tests.measured import CPU, a_machine, facts, keep, timed

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CEILINGS = Ceilings(macs_per_second=1e9, bytes_per_second=1e8, launch=1e-5)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


ONE = ("--device", "cpu", "--threads", "1")

# Fitting


POINTS: Sequence[Features] = [(1.0, 2.0, 0.5), (1.0, 8.0, 0.25), (1.0, 1.0, 9.0), (1.0, 0.5, 3.0), (1.0, 4.0, 4.0)]


@pytest.mark.parametrize("factors", [(3.0, 2.0, 1.0), (0.0, 1.5, 0.0), (2.0, 0.0, 4.0), (7.0, 0.0, 0.0)])
def test_factors_that_are_known_are_found(factors: Features) -> None:
    points = [(x, sum(a * b for a, b in zip(factors, x, strict=True))) for x in POINTS]
    found = fit(points)
    assert found.factors == pytest.approx(factors, abs=1e-6)
    assert found.layers == 5
    assert found.error == pytest.approx(0, abs=1e-6)


def test_factors_are_never_negative() -> None:
    # more work takes less time: the best line would fall
    found = fit([((1.0, 1.0, 0.0), 4.0), ((1.0, 2.0, 0.0), 3.0), ((1.0, 3.0, 0.0), 2.0)])
    assert found.factors[1] == 0
    assert found.factors[0] > 0


def test_twice_too_much_is_as_bad_as_half() -> None:
    # one factor for 1 s and 4 s: their geometric mean, 2 s; off by +100% and −50%, by 75% in the median
    found = fit([((1.0, 0.0, 0.0), 1.0), ((1.0, 0.0, 0.0), 4.0)])
    assert found.factors == pytest.approx((2.0, 0.0, 0.0), rel=1e-6)
    assert found.error == pytest.approx(0.75, rel=1e-6)


def test_features_by_hand() -> None:
    report = analyze(Network.sequential("net", (1, 1000), [ReLU(), Linear(1000)]))
    # 1000 comparisons, 8000 bytes; 10^6 MACs (biases aside), 4·1,003,000 bytes
    assert features(report["relu1"], CEILINGS, "float32") == (1e-5, 1000 / 1e9, 8000 / 1e8)
    assert features(report["linear1"], CEILINGS, "float32") == (1e-5, 1e6 / 1e9, 4_012_000 / 1e8)
    assert features(report["relu1"], CEILINGS, "float16")[2] == 4000 / 1e8


def test_a_model_gives_back_the_times_it_was_made_of() -> None:
    """Times by factors that depend on the family alone are predicted to the last digit, on layers not seen."""
    truth = {name: (1.0 + i, 2.0, 0.5 * i) for i, name in enumerate(sorted({family(row(*one)) for one in GRID}))}

    def seconds(layer: Layer, shape: tuple[int, ...]) -> float:
        known = row(layer, shape)
        pairs = zip(truth[family(known)], features(known, CEILINGS, "float32"), strict=True)
        return sum(a * x for a, x in pairs)

    model = fitted([Calibrated(layer, shape, seconds(layer, shape)) for layer, shape in GRID], CEILINGS, "float32")
    assert model.families.keys() == truth.keys()
    for layer, shape in (
        (layers.Conv2d(64, 3, padding=1), (2, 64, 56, 56)),
        (layers.Linear(1000), (4, 512)),
        (layers.MaxPool2d(3, 2), (1, 64, 112, 112)),
    ):
        assert model.seconds(row(layer, shape)) == pytest.approx(seconds(layer, shape), rel=1e-6)


def row(layer: Layer, shape: tuple[int, ...]) -> Row:
    return calibration.row_of(layer, shape)


# Families


@pytest.mark.parametrize(
    ("layer", "shape", "name"),
    [
        (layers.Conv2d(8, 3), (1, 4, 8, 8), "convolution"),
        (layers.Conv2d(8, (1, 3)), (1, 4, 8, 8), "convolution"),
        (layers.Conv2d(8, 1, stride=2), (1, 4, 8, 8), "pointwise convolution"),
        (layers.Conv2d(8, 3, groups=2), (1, 4, 8, 8), "grouped convolution"),
        (layers.Conv2d(4, 3, groups=4), (1, 4, 8, 8), "depthwise convolution"),
        (layers.Conv1d(8, 3), (1, 4, 8), "convolution"),
        (layers.ConvTranspose2d(8, 2), (1, 4, 8, 8), "transposed convolution"),
        (layers.Linear(3), (1, 4), "linear"),
        (layers.LSTM(3), (5, 1, 4), "recurrent"),
        (layers.MultiheadAttention(2), (5, 1, 4), "attention"),
        (layers.MaxPool2d(2), (1, 4, 8, 8), "max pooling"),
        (layers.AvgPool2d(2), (1, 4, 8, 8), "average pooling"),
        (layers.LocalResponseNorm(5), (1, 4, 8, 8), "response normalisation"),
        (layers.BatchNorm2d(), (1, 4, 8, 8), "normalisation"),
        (layers.LayerNorm((4,)), (1, 4), "normalisation by data"),
        (layers.Softmax(), (1, 4), "transcendental"),
        (layers.ReLU6(), (1, 4), "elementwise"),
        (layers.ZeroPad2d(1), (1, 4, 8, 8), "copy"),
        (layers.Flatten(), (1, 4, 8, 8), "view"),
        (layers.Dropout(), (1, 4), "view"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_families(layer: Layer, shape: tuple[int, ...], name: str) -> None:
    assert family(row(layer, shape)) == name


def test_every_layer_of_the_zoo_has_a_family_that_is_calibrated() -> None:
    known = {family(row(layer, shape)) for layer, shape in GRID}
    for entry in zoo.ENTRIES.values():
        for one in analyze(entry.build()):
            assert not one.sources or family(one) in known, (entry.name, one.name)


# The grid


def test_no_layer_of_the_zoo_is_in_the_grid() -> None:
    """Those that compute: channels, kernel and input differ from each layer of each network, at any batch."""
    grid = {(layer, shape[1:]) for layer, shape in GRID if row(layer, shape).macs}
    assert len(grid) > 50
    for entry in zoo.ENTRIES.values():
        for one in analyze(entry.build()):
            if one.sources:
                assert (one.node.layer, one.inputs[0][1:]) not in grid, (entry.name, one.name)


def test_no_layer_is_twice_in_the_grid() -> None:
    assert len({calibration.label(*one) for one in GRID}) == len(GRID)


def test_every_layer_of_a_grid_is_timed() -> None:
    grid: tuple[tuple[Layer, tuple[int, ...]], ...] = (
        (layers.Conv2d(4, 3), (1, 3, 8, 8)),
        (layers.Add(), (1, 3, 8, 8)),
        (layers.ReLU(inplace=True), (2, 3, 4, 4)),
        (layers.Flatten(), (1, 3, 2, 2)),
    )
    for dtype in (torch.float32, torch.bfloat16):
        found = calibration.measure(CPU, dtype, grid, rounds=2)
        assert [(one.layer, one.shape) for one in found] == list(grid)
        assert all(one.seconds > 0 for one in found)
        assert [one.row.name for one in found] == ["layer"] * 4


def test_layers_of_the_grid_read_what_a_layer_before_them_wrote() -> None:
    for layer, shape in GRID:
        found = row(layer, shape)
        assert found.inputs[0] == shape
        assert found.node.inputs == (("before", "input") if layer.kind in ("Add", "Concat") else ("before",))


# What is kept


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def measure(device: torch.device, dtype: torch.dtype, progress: object) -> tuple[Calibrated, ...]:
        asked.append(str(dtype))
        return tuple(Calibrated(layer, shape, 1e-3 * i) for i, (layer, shape) in enumerate(GRID, 1))

    monkeypatch.setattr(calibration, "measure", measure)
    return asked


def test_the_calibration_is_measured_once_and_again_where_asked(measured: list[str]) -> None:
    first = calibration.calibration(CPU, torch.float32)
    assert calibration.calibration(CPU, torch.float32) == first
    assert len(measured) == 1
    calibration.calibration(CPU, torch.float32, again=True)
    calibration.calibration(CPU, torch.bfloat16)
    assert len(measured) == 3


def test_another_grid_or_a_broken_file_is_measured_anew(measured: list[str]) -> None:
    first = calibration.calibration(CPU, torch.float32)
    record = cache.load(calibration.SCHEMA, facts())
    assert record is not None
    one = record["layers"][0]
    for damaged in ([], record["layers"][1:], [{**one, "median_s": 0}, *record["layers"][1:]], [{"layer": 1}], None):
        cache.save({**record, "layers": damaged})
        assert calibration.calibration(CPU, torch.float32) == first
    assert len(measured) == 6


def test_ctrl_c_while_calibrating_keeps_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibration.calibration(CPU, torch.float32)
    assert not folder.exists()


# Predictions


MODEL = Model(
    CEILINGS,
    "float32",
    {
        "elementwise": Family((2.0, 0.0, 1.0), 9, 0.1),
        "linear": Family((0.0, 3.0, 2.0), 9, 0.1),
        "view": Family((1.0, 0.0, 0.0), 9, 0.1),
    },
)


def net(batch: int = 1) -> Network:
    return Network.sequential("net", (batch, 1000), [ReLU(), Linear(1000), Flatten()])


def test_predictions_by_hand() -> None:
    report = analyze(net())
    # 2·10 µs + 80 µs; 3·1 ms + 2·40.12 ms; 10 µs
    predicted = {"input": 0.0, "relu1": 1e-4, "linear1": 0.08324, "flatten1": 1e-5}
    assert {one.name: MODEL.seconds(one) for one in report} == pytest.approx(predicted)


def test_rows_sum_to_the_pass() -> None:
    found = Forecast(analyze(net()), a_machine(), MODEL)
    assert [line.name for line in found.lines] == ["relu1", "linear1", "flatten1"]
    assert found.total.predicted == pytest.approx(sum(line.predicted for line in found.lines))
    assert found.total.predicted == pytest.approx(0.08335)
    assert found.total.measured is None
    assert [column.header for column in found.table().columns][-1] == "predicted"


def test_predicted_beside_measured() -> None:
    report = analyze(net())
    seconds = {"relu1": 2e-4, "linear1": 0.04162, "flatten1": 2e-5}
    found = Forecast(report, a_machine(), MODEL, timed(report, seconds, watched=0.05, whole=0.1667))
    relu, linear, _, between = found.lines
    assert [relu.error, linear.error] == pytest.approx([-0.5, 1.0])
    assert found.total.error == pytest.approx(-0.5)
    assert between.measured == pytest.approx(0.05 - 0.04184)
    table = found.table()
    assert [row[-1] for row in table.rows] == ["−50.0%", "+100.0%", "−50.0%", None]
    assert table.total is not None
    assert table.total[-2:] == ("167 ms", "−50.0%")
    # one layer takes a hundredth of the pass or more
    assert list(found.layer_errors) == pytest.approx([1.0])


@pytest.mark.parametrize(("error", "text"), [(0.1234, "+12.3%"), (-0.5, "−50.0%"), (0.0, "0.0%"), (1.5, "+150.0%")])
def test_errors_have_signs(error: float, text: str) -> None:
    assert forecast.percent(error) == text


def test_other_batches_follow_from_the_counts() -> None:
    one, eight = (Forecast(analyze(net(batch)), a_machine(), MODEL).lines for batch in (1, 8))
    # Linear at batch 8: 3·8 ms + 2·(8·2000 + 1,001,000)·4 B / 10^8 B/s
    assert eight[1].predicted == pytest.approx(0.024 + 2 * 4 * 1_017_000 / 1e8)
    assert one[2].predicted == eight[2].predicted


# The command line


def test_forecast_without_measuring_runs_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    keep()

    def fails(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(forecast, "time_networks", fails)
    predicted = []
    for options in ((), ("--batch", "100000"), ("--input", "3x448x448")):
        given = ("vgg19", *ONE, "--no-measure", *options, "--format", "json")
        [record] = shell("forecast", *given).data
        assert record["total"]["median_s"] is None
        assert record["total"]["predicted_s"] == pytest.approx(sum(one["predicted_s"] for one in record["layers"]))
        predicted.append(record["total"]["predicted_s"])
    assert predicted[0] < predicted[2] < predicted[1]


def test_forecast_beside_a_real_pass(shell: Shell) -> None:
    keep()
    options = ("lenet5", *ONE, "--seconds", "0.01", "--batch", "2")
    [record] = shell("forecast", *options, "--format", "json").data
    report = targets.resolve("lenet5", batch="2").report()
    assert [one["name"] for one in record["layers"]] == [
        *(one.name for one in report if one.sources),
        "between layers",
    ]
    for one in (*record["layers"][:-1], record["total"]):
        assert one["error"] == pytest.approx(one["predicted_s"] / one["median_s"] - 1)
    out = shell.ok("forecast", *options, "--model")
    assert "factors fitted on" in out
    assert "depthwise convolution" in out


def test_a_module_is_forecast_too(shell: Shell) -> None:
    keep()
    model = ("torch:torchvision.models:resnet18", "--input", "3x32x32", *ONE, "--seconds", "0.01")
    [record] = shell("forecast", *model, "--format", "json").data
    *lines, between = record["layers"]
    assert between["name"] == "between layers"
    assert between["predicted_s"] == 0
    additions = [one for one in lines if one["kind"] == "Add"]
    assert len(additions) == 8  # two a stage
    assert all(one["predicted_s"] > 0 and one["median_s"] > 0 for one in additions)


def test_the_same_network_written_otherwise_is_predicted_alike() -> None:
    builder = Builder("net", (1, 1000))
    builder.add(ReLU(inplace=True))
    builder.add(Linear(1000))
    other = analyze(builder.network())
    predicted = Forecast(other, a_machine(), MODEL).total.predicted
    assert predicted == pytest.approx(0.08335 - 1e-5)  # without the view


def test_errors_are_archcalcs(folder: Path) -> None:
    with pytest.raises(ArchcalcError, match="unknown dtype 'int8'"):
        forecast.forecast(targets.resolve("lenet5"), device=CPU, dtype="int8")
    assert not folder.exists()


@pytest.mark.cuda
@needs_cuda
def test_forecast_on_a_real_cuda_device() -> None:
    device = torch.device("cuda")
    before = torch.cuda.memory_allocated()
    found = forecast.forecast(targets.resolve("resnet18"), device=device, dtype="float16", seconds=0.01)
    assert found.total.predicted > 0
    assert found.total.measured
    assert torch.cuda.memory_allocated() == before
