"""Every installed counter on every classification model of torchvision and every network of the zoo, as it counts them.

Usage: python benchmarks/counters.py [--only REGEX] [--tools NAME,...] [--output FILE]

Each counter runs in a process of its own. What a results file has of the same versions is not run again. The page
docs/counters.md predicts every number anew, and cannot be written where one is left unexplained.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from speed import RESULTS

from archcalc import zoo
from archcalc.errors import CheckError
from archcalc.pytorch.build import build
from archcalc.pytorch.counters import COUNTERS, installed
from archcalc.pytorch.load import without_data
from archcalc.pytorch.observe import materialize

SIDE = {"inception_v3": 299}
CPU = torch.device("cpu")


def subjects() -> Iterator[str]:
    """torchvision's classification models as torch:…, then the zoo."""
    for name in torchvision.models.list_models(module=torchvision.models):
        yield f"torchvision.models.{name}"
    yield from zoo.ENTRIES


def module_of(subject: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    """The real module, on the CPU, with small numbers for weights, and the shape of its input."""
    if subject in zoo.ENTRIES:
        network = zoo.find(subject).build()
        shape = network.input_nodes[0].layer.output()
        return materialize(build(network, device="meta"), CPU), tuple(map(int, shape))
    name = subject.rpartition(".")[2]
    made = materialize(without_data(lambda: getattr(torchvision.models, name)(weights=None)), CPU)
    return made, (1, 3, *(SIDE.get(name, 224),) * 2)


def told_by(tool: str, subject: str) -> dict[str, Any]:
    """What a tool says of a network, as it is kept: causes are worked out anew each time."""
    module, shape = module_of(subject)
    try:
        counted = COUNTERS[tool].here(module, (torch.zeros(shape),), {})
    except CheckError as error:
        return {"failed": str(error)}
    return {"number": counted.total, "params": counted.params, "changed": list(counted.changed)}


def run(tool: str, only: str, output: Path) -> None:
    """One tool on every network that the results do not have of this version; they are written after each."""
    warnings.simplefilter("ignore")
    versions = {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}
    versions[tool] = str(COUNTERS[tool].version)
    for subject in subjects():
        kept = json.loads(output.read_text()) if output.exists() else {"versions": {}, "networks": {}}
        told = kept["networks"].setdefault(subject, {})
        current = all(kept["versions"].get(name) == version for name, version in versions.items())
        if (tool in told and current) or not re.search(only, subject):
            continue
        told[tool] = told_by(tool, subject)
        gc.collect()
        networks = {name: kept["networks"][name] for name in subjects() if kept["networks"].get(name)}
        draft = output.with_suffix(".draft")
        draft.write_text(json.dumps({"versions": kept["versions"] | versions, "networks": networks}, indent=1) + "\n")
        draft.replace(output)
        print(tool, subject, told[tool].get("number") or told[tool].get("failed"), flush=True)


def main() -> int:
    """Run what is asked for and not there yet, each tool in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="networks whose names match")
    parser.add_argument("--tools", default=",".join(installed()))
    parser.add_argument("--output", type=Path, default=RESULTS / "counters.json")
    options = parser.parse_args()
    tools = options.tools.split(",")
    if len(tools) == 1:
        run(tools[0], options.only, options.output)
        return 0
    again = [sys.executable, __file__, "--only", options.only, "--output", str(options.output)]
    return max(subprocess.run([*again, "--tools", tool], check=False).returncode for tool in tools)


if __name__ == "__main__":
    sys.exit(main())
