"""Cog blocks about memory: what autograd keeps of real modules beside what their layers state."""

from __future__ import annotations

from archcalc import analyze, memory, units, zoo
from archcalc.layers import KINDS, Layer
from archcalc.table import Column, Table

__all__ = ["kinds_that_do_not_state", "saved_checks"]

_CHECKED = {
    "alexnet-torchvision": ("alexnet", {}),
    "vgg19": ("vgg19", {}),
    "resnet34": ("resnet34", {}),
    "googlenet-torchvision": ("googlenet", {"aux_logits": False, "init_weights": False}),
    "mobilenet-v2": ("mobilenet_v2", {}),
}


def saved_checks() -> None:
    """For five networks, ours and torchvision's: the bytes their layers state, and those that autograd keeps."""
    import torch
    import torchvision

    from archcalc.pytorch.build import build
    from archcalc.pytorch.saved import saved_bytes
    from archcalc.pytorch.trace import trace

    shape = (1, 3, 224, 224)
    rows: list[tuple[object, ...]] = []
    for name, (model, arguments) in _CHECKED.items():
        network = zoo.ENTRIES[name].build()
        with torch.device("meta"):
            module = getattr(torchvision.models, model)(**arguments)
        pairs = (
            (name, memory(analyze(network, shape)).kept, build(network, shape, device="meta")),
            (f"torchvision's {model}", memory(trace(module, shape)).kept, module),
        )
        for label, stated, real in pairs:
            seen = saved_bytes(real.to_empty(device="cpu"), torch.rand(shape))
            rows.append((label, stated, seen, "equal" if stated == seen else units.count(stated - seen)))
    columns = (Column("network", "left"), Column("layers state"), Column("autograd keeps"), Column("", "left"))
    print(Table("", columns, tuple(rows)).to_markdown(), end="")


def kinds_that_do_not_state() -> None:
    """Layer kinds that do not state what backward keeps."""
    silent = sorted(
        name
        for name, kind in KINDS.items()
        if kind.__module__.startswith("archcalc.layers.") and kind.kept is None and kind.keeps is Layer.keeps
    )
    print(", ".join(f"`{name}`" for name in silent if name != "Unused") + ".")
