"""Made-up measurements: a machine whose ceilings are round numbers, times that are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from archcalc import cache
from archcalc.analysis import Report
from archcalc.pytorch import calibration
from archcalc.pytorch.ceilings import Machine, Sample
from archcalc.pytorch.devices import environment
from archcalc.pytorch.forecast import features
from archcalc.pytorch.stopwatch import TimedLayer, TimedNetwork
from archcalc.pytorch.timing import Timing

CPU = torch.device("cpu")

SAMPLES = (
    Sample("matrix product", 1000, 1.0),  # 10^9 MAC/s
    Sample("matrix product", 2000, 10.0),  # 0.8·10^9
    Sample("copy", 10**8, 4.0),  # 2·10^8 / 4 = 0.5·10^8 B/s
    Sample("triad", 10**8, 3.0),  # 3·10^8 / 3 = 10^8 B/s
    Sample("launch", 1, 1e-5),
)
"""1 GMAC/s, 0.1 GB/s, 10 µs."""


def facts(dtype: torch.dtype = torch.float32, threads: int | None = None) -> dict[str, Any]:
    return environment(CPU, dtype=dtype, threads=threads or torch.get_num_threads())


def a_machine(samples: Sequence[Sample] = SAMPLES, threads: int | None = None) -> Machine:
    return Machine(facts(threads=threads), tuple(samples))


def keep() -> None:
    """Keep the machine with one thread, and a calibration in which layers take what every ceiling says, summed."""
    machine = a_machine(threads=1)
    layers = [
        {
            "layer": calibration.label(layer, shape),
            "median_s": sum(features(calibration.row_of(layer, shape), machine.ceilings, "float32")),
        }
        for layer, shape in calibration.GRID
    ]
    cache.save(machine.to_dict())
    cache.save({"schema": calibration.SCHEMA, "environment": facts(threads=1), "layers": layers})


def timed(report: Report, seconds: Mapping[str, float], watched: float, whole: float) -> TimedNetwork:
    """A pass in which each named row, a layer of its own, took this long."""
    layers = tuple(
        TimedLayer(name, report[name].kind, (report[name],), Timing((taken,))) for name, taken in seconds.items()
    )
    return TimedNetwork(report, int(report.input[0]), facts(), False, Timing((whole,)), Timing((watched,)), layers)
