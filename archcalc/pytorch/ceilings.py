"""Ceilings: what this machine does at most, measured with PyTorch once and kept with the environment it holds in.

The matrix rate is the best of several sizes of square matrix product, the memory bandwidth the best of copies
(two bytes moved for each byte of an array) and triads a + s·b (three) of arrays too large for most caches (McCalpin
1995, STREAM), the launch the median of an addition of two numbers in a module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from archcalc import cache, units
from archcalc.errors import InputError
from archcalc.pytorch import timing
from archcalc.pytorch.devices import described, environment, lacking, memory_guard, require_dtype
from archcalc.pytorch.observe import random
from archcalc.pytorch.timing import Progress
from archcalc.roofline import Ceilings
from archcalc.table import Column, Table

SCHEMA = "archcalc.ceilings/1"

MATRICES = {"cpu": (256, 512, 1024, 2048), "accelerator": (1024, 2048, 4096, 8192)}
"""Rows and columns of the matrices multiplied."""

ARRAYS = {"cpu": (2**26, 2**27, 2**28), "accelerator": (2**28, 2**29, 2**30)}
"""Bytes of the arrays copied and added."""

LONGEST = 0.5
"""Seconds: a size that would take longer than this is left out."""

Ceiling: TypeAlias = Literal["matrix product", "copy", "triad", "launch"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: rows of the matrices or bytes of an array, and the median of the seconds it took."""

    ceiling: Ceiling
    size: int
    seconds: float

    @property
    def rate(self) -> float:
        """MACs a second, bytes moved a second, launches a second."""
        work = {"matrix product": self.size**3, "copy": 2 * self.size, "triad": 3 * self.size, "launch": 1}
        return work[self.ceiling] / self.seconds


@dataclass(frozen=True)
class Machine:
    """Samples and the environment they were measured in; the ceilings are the best of them."""

    environment: Mapping[str, Any]
    samples: tuple[Sample, ...]

    @property
    def ceilings(self) -> Ceilings:
        """The largest rates, the launch."""
        return Ceilings(
            macs_per_second=self.best("matrix product").rate,
            bytes_per_second=self.best("copy", "triad").rate,
            launch=self.best("launch").seconds,
        )

    def best(self, *names: Ceiling) -> Sample:
        """The sample of the largest rate."""
        return max((sample for sample in self.samples if sample.ceiling in names), key=lambda sample: sample.rate)

    def table(self) -> Table:
        """Every sample with its rate; the largest is the ceiling."""
        best = (self.best("matrix product"), self.best("copy", "triad"), self.best("launch"))
        rows = [
            (one.ceiling, *_described(one), "ceiling" if any(one is ceiling for ceiling in best) else None)
            for one in self.samples
        ]
        columns = (Column("measured", "left"), *map(Column, ("size", "median", "rate")), Column("", "left"))
        facts = self.environment
        title = f"ceilings in {facts['dtype']} on {facts['device']}"
        return Table(title, columns, tuple(rows), notes=(described(facts),))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, schema archcalc.ceilings/1."""
        best = self.ceilings
        return {
            "schema": SCHEMA,
            "environment": dict(self.environment),
            "macs_per_s": best.macs_per_second,
            "bytes_per_s": best.bytes_per_second,
            "launch_s": best.launch,
            "samples": [{"ceiling": one.ceiling, "size": one.size, "median_s": one.seconds} for one in self.samples],
        }


def machine(
    device: torch.device, dtype: torch.dtype, *, again: bool = False, progress: Progress = lambda step, share: None
) -> Machine:
    """This machine's ceilings with the threads torch has now: those kept, or measured where there are none, or again.

    Raises InputError for a dtype the device lacks or where not even the smallest sizes fit its memory.
    """
    require_dtype(device, dtype)
    facts = environment(device, dtype=dtype, threads=torch.get_num_threads())
    kept = None if again else _read(facts)
    if kept is not None:
        return kept
    measured = Machine(facts, tuple(measure(device, dtype, progress=progress)))
    cache.save(measured.to_dict())
    return measured


def measure(
    device: torch.device,
    dtype: torch.dtype,
    *,
    matrices: tuple[int, ...] = (),
    arrays: tuple[int, ...] = (),
    seconds: float = 0.2,
    progress: Progress = lambda step, share: None,
) -> Iterator[Sample]:
    """Samples of every size, by default `MATRICES` and `ARRAYS`, each measured for at least so many seconds.

    Sizes grow; those after one that does not fit the memory, or that would take too long, are left out. Raises
    InputError where the device cannot multiply matrices of the dtype, or the smallest does not fit.
    """
    kind = "cpu" if device.type == "cpu" else "accelerator"
    by_ceiling: dict[Ceiling, tuple[int, ...]] = {
        "matrix product": matrices or MATRICES[kind],
        "copy": arrays or ARRAYS[kind],
        "triad": arrays or ARRAYS[kind],
        "launch": (1,),
    }
    every = [(ceiling, size) for ceiling, sizes in by_ceiling.items() for size in sizes]
    for ceiling, sizes in by_ceiling.items():
        last: Sample | None = None
        for size in sizes:
            if last is not None and _expected(last, size) > LONGEST:
                break
            progress(f"ceilings of {device}: {ceiling}, {size:,}", every.index((ceiling, size)) / len(every))
            try:
                last = Sample(ceiling, size, _seconds(ceiling, size, device, dtype, seconds))
            except InputError:
                if last is None:
                    raise
                break
            yield last


def _expected(last: Sample, size: int) -> float:
    return last.seconds * (size / last.size) ** (3 if last.ceiling == "matrix product" else 1)


def _seconds(ceiling: Ceiling, size: int, device: torch.device, dtype: torch.dtype, least: float) -> float:
    with memory_guard(device):
        try:
            tensors = _operands(ceiling, size, device, dtype)
            module = _Operation(ceiling)
            return timing.time_forward(module, tensors, min_seconds=least, min_runs=5, warmup=2).median
        except NotImplementedError as error:
            raise lacking(f"the {ceiling}", dtype, device, error) from None


def _operands(ceiling: Ceiling, size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Matrices are random, as a network's are: a GPU multiplies equal numbers faster, since fewer bits change."""
    if ceiling == "matrix product":
        return tuple(random((size, size), device).to(dtype) for _ in range(3))
    shape = (1,) if ceiling == "launch" else (size // dtype.itemsize,)
    return tuple(torch.ones(shape, device=device, dtype=dtype) for _ in range(2 if ceiling == "copy" else 3))


class _Operation(nn.Module):
    """An operation that writes its last argument."""

    def __init__(self, ceiling: Ceiling) -> None:
        super().__init__()
        self.ceiling = ceiling

    def forward(self, *tensors: Tensor) -> Tensor:
        """Multiply, copy or add."""
        if self.ceiling == "matrix product":
            return torch.mm(tensors[0], tensors[1], out=tensors[2])
        if self.ceiling == "copy":
            return tensors[1].copy_(tensors[0])
        return torch.add(tensors[0], tensors[1], alpha=3, out=tensors[2])


def _described(sample: Sample) -> tuple[str | None, str, str | None]:
    """Size, median and rate with their units."""
    median = units.seconds(sample.seconds)
    if sample.ceiling == "launch":
        return None, median, None
    if sample.ceiling == "matrix product":
        return units.shape((sample.size, sample.size)), median, f"{sample.rate / 1e9:,.1f} GMAC/s"
    return units.mib(sample.size), median, f"{sample.rate / 1e9:,.1f} GB/s"


def _read(facts: Mapping[str, Any]) -> Machine | None:
    """The machine kept; None where the record is none or not whole."""
    record = cache.load(SCHEMA, facts)
    try:
        samples = tuple(Sample(one["ceiling"], one["size"], one["median_s"]) for one in (record or {})["samples"])
        kept = Machine(facts, samples)
        return kept if min(chain((one.seconds for one in samples), vars(kept.ceilings).values())) > 0 else None
    except (LookupError, TypeError, ValueError, ZeroDivisionError):
        return None
