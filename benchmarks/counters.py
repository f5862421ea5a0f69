"""Every installed counter on every classification model of torchvision and every network of the zoo, each explained.

Usage: python benchmarks/counters.py [--only REGEX] [--tools NAME,...] [--output FILE]

What a results file has of the same versions is not run again. Ends with 1 where something is left unexplained.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from speed import RESULTS

from archcalc import zoo
from archcalc.pytorch.build import build
from archcalc.pytorch.counters import COUNTERS, installed
from archcalc.pytorch.load import without_data
from archcalc.pytorch.observe import materialize
from archcalc.pytorch.why import Account, why

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


def record(account: Account) -> dict[str, Any]:
    """What a tool said, as it is kept: counts do not depend on the machine, and causes are worked out anew."""
    counted = account.counted
    if counted is None:
        return {"failed": account.failed}
    return {"number": counted.total, "params": counted.params, "changed": list(counted.changed)}


def main() -> int:
    """Run what is asked for and not there yet; write the file after each subject."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="networks whose names match")
    parser.add_argument("--tools", default=",".join(installed()))
    parser.add_argument("--output", type=Path, default=RESULTS / "counters.json")
    options = parser.parse_args()
    tools = options.tools.split(",")
    versions = {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}
    versions |= {tool: str(COUNTERS[tool].version) for tool in tools}
    kept = json.loads(options.output.read_text()) if options.output.exists() else {"versions": {}, "networks": {}}
    known = {tool for tool, version in versions.items() if kept["versions"].get(tool) == version}
    networks: dict[str, dict[str, Any]] = kept["networks"]
    unexplained = 0
    for subject in subjects():
        told = networks.setdefault(subject, {})
        missing = [tool for tool in tools if tool not in told or tool not in known]
        if not missing or not re.search(options.only, subject):
            continue
        module, shape = module_of(subject)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = why(module, torch.zeros(shape), missing)
        for account in found.accounts:
            told[account.tool] = record(account)
            if not account.ok:
                unexplained += account.counted is not None
                print(subject, account.failed or f"{account.tool}: {account.remainder} {account.params_remainder} left")
        print(subject, flush=True)
        del module, found
        gc.collect()
        result = {"versions": kept["versions"] | versions, "networks": {k: v for k, v in networks.items() if v}}
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main())
