"""archcalc's trace against FlopCounterMode, on all of torchvision's classification models; peak memory of processes.

Usage: python benchmarks/trace.py [--name ENVIRONMENT] [--rounds N] [--output FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torchvision
from speed import RESULTS, environment, environment_name
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import archcalc
from archcalc.pytorch.load import without_data
from archcalc.pytorch.trace import trace

MEMORY_OF = ("vit_b_16", "vit_l_16", "vit_h_14")
SIDE = {"inception_v3": 299}
WITHOUT_INIT = {"googlenet", "inception_v3"}  # their constructors draw weights, and warn where they are not told to

IMPORTS = """
import resource, sys
import torchvision
import archcalc
from archcalc.pytorch import load, trace
"""
TRACE = """
make = getattr(torchvision.models, sys.argv[1])
archcalc.analyze(trace.trace(load.without_data(make), (1, 3, 224, 224)))
"""
PEAK = """
try:
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024)
except OSError:  # not Linux, where ru_maxrss would include the process that started this one
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def make(name: str) -> nn.Module:
    """The model on the meta device, in eval mode."""
    settings = {"init_weights": False} if name in WITHOUT_INIT else {}
    maker = getattr(torchvision.models, name)
    return without_data(lambda: maker(weights=None, **settings)).to("meta").eval()


def traced(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Trace; the number of nodes."""
    return len(trace(module, shape).nodes)


def counted(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Run under FlopCounterMode and count by module; the FLOPs."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.empty(shape, device="meta"))
    assert counter.get_flop_counts()
    return int(counter.get_total_flops())


def model(name: str, rounds: int) -> dict[str, Any]:
    """Interleaved rounds of one model, after one of each that is not counted."""
    module, shape = make(name), (1, 3, SIDE.get(name, 224), SIDE.get(name, 224))
    net = trace(module, shape)
    report = archcalc.analyze(net)
    assert report.total.macs == counted(module, shape) // 2, name
    seconds: list[tuple[float, float]] = []
    for i in range(rounds):
        pair = {}
        order: list[Callable[[nn.Module, tuple[int, ...]], int]] = [traced, counted]
        for measured in order if i % 2 else order[::-1]:
            gc.collect()
            start = perf_counter()
            measured(module, shape)
            pair[measured] = perf_counter() - start
        seconds.append((pair[traced], pair[counted]))
    return {
        "model": name,
        "input": list(shape),
        "nodes": len(net.nodes),
        "macs": report.total.macs,
        "trace_median_seconds": statistics.median(ours for ours, _ in seconds),
        "flop_counter_median_seconds": statistics.median(theirs for _, theirs in seconds),
        "median_ratio": statistics.median(ours / theirs for ours, theirs in seconds),
        "seconds": seconds,
    }


def peak(*arguments: str) -> int:
    """The most bytes of memory a process held that imports, and traces the model if one is named."""
    script = IMPORTS + (TRACE if arguments else "") + PEAK
    done = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout)


def memory(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Peak memory of processes that trace, beside that of one that only imports, and the bytes of the weights."""
    imports = peak()
    return [
        {
            "model": name,
            "peak_bytes": peak(name),
            "imports_peak_bytes": imports,
            "weight_bytes": sum(4 * parameter.numel() for parameter in make(name).parameters()),
        }
        for name in names
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="the environment's name in the file")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each model")
    parser.add_argument("--output", type=Path, help="write here instead")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    facts = environment()
    held = memory(MEMORY_OF)
    models = [model(name, arguments.rounds) for name in torchvision.models.list_models(module=torchvision.models)]
    ours = sum(one["trace_median_seconds"] for one in models)
    theirs = sum(one["flop_counter_median_seconds"] for one in models)
    found = {
        "schema": "archcalc.trace/1",
        **facts,
        "rounds": arguments.rounds,
        "models": models,
        "trace_seconds": ours,
        "flop_counter_seconds": theirs,
        "ratio": ours / theirs,
        "memory": held,
    }
    path = arguments.output or RESULTS / f"trace-{arguments.name or environment_name(facts)}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for one in models:
        print(f"{one['model']}: {1e3 * one['trace_median_seconds']:.1f} ms, {one['median_ratio']:.2f} times")
    print(f"all {len(models)}: {ours:.2f} s, FlopCounterMode {theirs:.2f} s: {ours / theirs:.2f} times")
    for one in held:
        print(
            f"{one['model']}: peak {one['peak_bytes']:,} bytes, imports alone {one['imports_peak_bytes']:,}; "
            f"weights would take {one['weight_bytes']:,}"
        )
    print(path)


if __name__ == "__main__":
    main()
