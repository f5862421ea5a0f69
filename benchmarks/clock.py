"""Theory against clock: the ratio of two networks' MACs, or of two ways to run one, beside the ratio of their times.

Usage: python benchmarks/clock.py [--only REGEX] [--device NAME] [--threads N] [--seconds S]

The two are timed in turn, in the same run, and the first a second time beside itself (A/A): a ratio that differs from 1
by less than that of the first to itself says nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from forecast import RESULTS, environment_name

from archcalc import targets
from archcalc.errors import InputError
from archcalc.pytorch import devices, timing
from archcalc.pytorch.subject import Settings, Subject, subject


@dataclass(frozen=True)
class Side:
    """A network as it is run."""

    network: str
    choices: tuple[str, ...] = ()
    batch: int = 1
    dtype: str = "float32"
    channels_last: bool = False
    compiled: bool = False
    tf32: bool | None = None

    def subject(self, device: torch.device, threads: int | None) -> Subject:
        """The module on the device."""
        settings = Settings(device, self.dtype, self.channels_last, threads, self.compiled, self.tf32)
        return subject(targets.resolve(self.network, self.choices, batch=str(self.batch)), settings)


def pairs(device: torch.device) -> Iterator[tuple[str, Side, Side]]:
    """What is compared, the usual first."""
    yield "k×k convolutions made depthwise separable", Side("vgg19"), Side("vgg19+depthwise-separable")
    yield "k×k convolutions made depthwise separable", Side("resnet34"), Side("resnet34+depthwise-separable")
    yield "one tower made two groups", Side("alexnet", ("towers=1",)), Side("alexnet")
    yield "1×1 reductions before 3×3 and 5×5", Side("inception-naive"), Side("inception-reduced")
    yield "shortcuts", Side("plain34"), Side("resnet34")
    yield "no batch norm, then batch norm", Side("vgg16"), Side("vgg16", ("batch_norm=true",))
    many = 64 if device.type == "cpu" else 256
    for name in ("resnet34", "mobilenet-v2", "alexnet"):
        yield "batch", Side(name), Side(name, batch=many)
    batch = 8 if device.type == "cpu" else 256
    for name in ("resnet34", "mobilenet-v2", "vit-b-16"):
        usual = Side(name, batch=batch, tf32=False if device.type == "cuda" else None)
        if device.type == "cuda":
            yield "TF32", usual, Side(name, batch=batch, tf32=True)
            yield "float16", usual, Side(name, batch=batch, dtype="float16")
        yield "bfloat16", usual, Side(name, batch=batch, dtype="bfloat16")
        if name != "vit-b-16":
            yield "channels last", usual, Side(name, batch=batch, channels_last=True)
        yield "torch.compile", usual, Side(name, batch=batch, compiled=True, tf32=usual.tf32)


def compare(what: str, sides: tuple[Side, Side], device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Times of both sides in turn, and of the first side twice."""
    first, second = (side.subject(device, options.threads) for side in sides)
    with ExitStack() as stack:
        for one in (first, second):
            stack.enter_context(timing.measuring(one.module, one.tensors, device))
        within = [one.settings.applied for one in (first, first, second)]
        forwards = [first.forward(), first.forward(), second.forward()]
        times = timing.interleaved(forwards, device, within=within, min_seconds=options.seconds)
    record: dict[str, Any] = {"what": what}
    for name, side, one, taken in zip(("first", "second"), sides, (first, second), times[::2], strict=True):
        macs, batch = int(one.report.total.macs), one.batch
        record[name] = asdict(side) | {"macs": macs, "median_s": taken.median, "iqr_s": taken.iqr, "batch": batch}
    for name, taken in (("ratio", times[2]), ("same", times[1])):
        ratio, iqr = taken.ratio_to(times[0])
        record[name] = {"median": ratio, "iqr": iqr, "runs": taken.runs}
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="comparisons whose words match")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=3.0, help="least time to measure each network")
    parser.add_argument("--output", type=Path, help="write here instead")
    options = parser.parse_args()
    (device,) = devices.resolve(options.device)
    found = []
    for what, first, second in pairs(device):
        if not re.search(options.only, f"{what} {first.network} {second.network}"):
            continue
        try:
            record = compare(what, (first, second), device, options)
        except InputError as refused:  # memory that is too small, no compiler
            print(f"{what}, {second.network}: {refused}", flush=True)
            continue
        print(f"{what}, {second.network}: {record['ratio']['median']:.3f}", flush=True)
        found.append(record)
        gc.collect()
        torch.compiler.reset()
    with timing.threads(options.threads or torch.get_num_threads()):
        facts = Settings(device).facts
    facts.pop("dtype")
    path = options.output or RESULTS / f"clock-{environment_name(facts)}.json"
    path.write_text(json.dumps({"environment": facts, "pairs": found}, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
