"""torchscan's crawl_module."""

from typing import Any

from torch import nn

from archcalc.pytorch.counters.base import Arguments, Counted, Counter, leaves, required


def count(module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
    """What torchscan calls MACs, of modules without submodules; those without a formula are unsupported."""
    report = required("torchscan").crawl_module(module, args=args, kwargs=kwargs)
    layers = dict.fromkeys(leaves(module).values(), 0)
    unsupported = set()
    for call in report["layers"]:
        macs = call["metrics"].get("macs")
        if macs is None:
            continue
        if call["path"] in layers:
            layers[call["path"]] += int(macs["known_value"] or 0)
        if macs["status"] != "complete":
            unsupported.add(call["type"])
    totals = report["totals"]
    total = int(totals["macs"]["known_value"] or 0)
    return Counted(total, layers, int(totals["parameters"]["value"]), tuple(sorted(unsupported)))


COUNTERS = (Counter("torchscan", "torchscan", count),)
