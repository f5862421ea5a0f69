"""archcalc's full report against FlopCounterMode, fvcore and torchinfo; the whole process; peak memory.

Usage: python benchmarks/speed.py [--name ENVIRONMENT] [--rounds N] [--output FILE]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

import archcalc
from archcalc import zoo
from archcalc.pytorch.devices import cpu_model

NETWORKS = ("vgg19", "resnet152")
IMAGE = (1, 3, 224, 224)
SLOW = ("fvcore", "torchinfo")
ROUND = 0.1  # seconds; a round as short as a millisecond would miss the moments in which the machine does other things
RESULTS = Path(__file__).resolve().parent / "results"

MEMORY = """
import sys, tracemalloc
from archcalc import analyze, zoo
tracemalloc.start()
rows = [
    (row.output, row.activations, row.weights, row.biases, row.buffers, row.ledger, row.receptive_field, row.jump)
    for row in analyze(zoo.find(sys.argv[1]).build())
]
print(tracemalloc.get_traced_memory()[1])
"""


def archcalc_report(name: str) -> int:
    """Build, analyse and read every number of every row; the MACs in total."""
    macs = 0
    rows = []
    for row in archcalc.analyze(zoo.find(name).build()):
        ledger = row.ledger
        counts = (row.activations, row.weights, row.biases, row.buffers)
        rows.append((row.name, row.kind, row.output, *counts, ledger, row.receptive_field, row.jump))
        macs += ledger.get("mac", 0)
    return macs


def flop_counter_report(name: str) -> int:
    """Construct on the meta device and count by module."""
    with torch.device("meta"):
        module = getattr(torchvision.models, name)(weights=None).eval()
        image = torch.empty(IMAGE)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(image)
    by_module = counter.get_flop_counts()
    assert by_module
    return int(counter.get_total_flops()) // 2


def fvcore_report(name: str) -> int:
    """Construct on the CPU and count by module."""
    fvcore: Any = importlib.import_module("fvcore.nn")
    module = getattr(torchvision.models, name)(weights=None).eval()
    analysis = fvcore.FlopCountAnalysis(module, torch.empty(IMAGE))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    assert analysis.by_module()
    return int(analysis.total())


def torchinfo_report(name: str) -> int:
    """Construct on the CPU and summarise."""
    torchinfo: Any = importlib.import_module("torchinfo")
    module = getattr(torchvision.models, name)(weights=None)
    summary = torchinfo.summary(
        module, input_size=IMAGE, device="cpu", mode="eval", verbose=0, cache_forward_pass=False
    )
    assert summary.summary_list
    return int(summary.total_mult_adds)


TOOLS: Mapping[str, Callable[[str], int]] = {
    "archcalc": archcalc_report,
    "FlopCounterMode": flop_counter_report,
    "fvcore": fvcore_report,
    "torchinfo": torchinfo_report,
}


def reports(name: str, rounds: int, slow_rounds: int) -> dict[str, Any]:
    """Medians of interleaved rounds of every tool on one network, and the ratio of the fastest other to archcalc."""
    macs = {tool: report(name) for tool, report in TOOLS.items()}
    assert macs["archcalc"] == macs["FlopCounterMode"], macs
    seconds: dict[str, list[float]] = {tool: [] for tool in TOOLS}
    for i in range(rounds):
        for tool, report in TOOLS.items():
            if tool not in SLOW or i < slow_rounds:
                seconds[tool].append(_mean(report, name))
    medians = {tool: statistics.median(samples) for tool, samples in seconds.items()}
    fastest = min((medians[tool], tool) for tool in TOOLS if tool != "archcalc")[1]
    return {
        "network": name,
        "input": list(IMAGE),
        "macs": macs["archcalc"],
        "median_seconds": medians,
        "fastest_other": fastest,
        "ratio_to_fastest": medians[fastest] / medians["archcalc"],
        "rounds": {tool: len(samples) for tool, samples in seconds.items()},
        "seconds": seconds,
    }


def _mean(report: Callable[[str], int], name: str) -> float:
    """Seconds of one report, the mean of as many as take a tenth of a second together, or of one that takes longer."""
    runs, start = 0, perf_counter()
    while (elapsed := perf_counter() - start) < ROUND or not runs:
        report(name)
        runs += 1
    return elapsed / runs


def process(pairs: int) -> dict[str, Any]:
    """`archcalc show vgg19` and `import torch` as whole processes, in turn; the first pair warms the disk's cache."""
    ours, theirs = ["-m", "archcalc", "show", "vgg19"], ["-c", "import torch"]
    both = [(_wall(ours), _wall(theirs)) for _ in range(pairs + 1)][1:]
    return {
        "command": "python -m archcalc show vgg19",
        "against": 'python -c "import torch"',
        "rounds": pairs,
        "median_seconds": statistics.median(ours for ours, _ in both),
        "against_median_seconds": statistics.median(theirs for _, theirs in both),
        "median_ratio": statistics.median(theirs / ours for ours, theirs in both),
        "seconds": both,
    }


def _wall(arguments: list[str]) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def memory(name: str) -> dict[str, Any]:
    """The most bytes Python held while one report was made and read, beside those the weights would take."""
    done = subprocess.run([sys.executable, "-c", MEMORY, name], check=True, capture_output=True, text=True)
    total = archcalc.analyze(zoo.find(name).build()).total
    return {"network": name, "peak_bytes": int(done.stdout), "weight_bytes": 4 * total.params}


def environment() -> dict[str, Any]:
    """The machine and the versions that the times depend on."""
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "versions": {
            "archcalc": archcalc.__version__,
            "torch": str(torch.__version__),
            **{package: importlib.metadata.version(package) for package in ("torchvision", "fvcore", "torchinfo")},
        },
        "date": datetime.now(UTC).date().isoformat(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def environment_name(facts: Mapping[str, Any]) -> str:
    """A file name's part such as amd-epyc-2-cores-torch2.15."""
    machine, version = facts["machine"], ".".join(facts["versions"]["torch"].split(".")[:2])
    cpu = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-")
    return f"{cpu}-{machine['cores']}-cores-torch{version}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="the environment's name in the file")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of archcalc and FlopCounterMode")
    parser.add_argument("--slow-rounds", type=int, default=5, help="rounds of fvcore and torchinfo")
    parser.add_argument("--pairs", type=int, default=15, help="pairs of whole processes")
    parser.add_argument("--output", type=Path, help="write here instead")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    facts = environment()
    found = {
        "schema": "archcalc.speed/1",
        **facts,
        "reports": [reports(name, arguments.rounds, arguments.slow_rounds) for name in NETWORKS],
        "process": process(arguments.pairs),
        "memory": [memory(name) for name in NETWORKS],
    }
    path = arguments.output or RESULTS / f"speed-{arguments.name or environment_name(facts)}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for report in found["reports"]:
        medians = ", ".join(f"{tool} {1e3 * median:.3g} ms" for tool, median in report["median_seconds"].items())
        print(f"{report['network']}: {medians}; {report['ratio_to_fastest']:.1f} times {report['fastest_other']}")
    whole = found["process"]
    ours, ratio = whole["median_seconds"], whole["median_ratio"]
    print(f"{whole['command']}: {ours:.3f} s; {whole['against']}: {ratio:.1f} times that")
    for one in found["memory"]:
        print(f"{one['network']}: peak {one['peak_bytes']:,} bytes; weights would take {one['weight_bytes']:,}")
    print(path)


if __name__ == "__main__":
    main()
