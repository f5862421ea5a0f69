"""Cog blocks about memory: what autograd keeps of real modules beside what their layers state."""

from __future__ import annotations

from archcalc import analyze, memory, units, zoo
from archcalc.analysis import Report
from archcalc.errors import ShapeError
from archcalc.graph import Network
from archcalc.table import Column, Table

__all__ = ["measured_checks", "saved_checks", "zoo_checks"]

_CHECKED = {
    "alexnet-torchvision": ("alexnet", {}),
    "vgg19": ("vgg19", {}),
    "resnet34": ("resnet34", {}),
    "googlenet-torchvision": ("googlenet", {"aux_logits": False, "init_weights": False}),
    "mobilenet-v2": ("mobilenet_v2", {}),
    "vit-b-16": ("vit_b_16", {}),
}

_SIZES = (32, 64, 96)

_DEEPER = ("resnet101", "resnet152", "resnet110", "resnet1202")


def saved_checks() -> None:
    """For six networks, ours and torchvision's: the bytes their layers state, and those that autograd keeps."""
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
            rows.append((label, *_compared(stated, seen)))
    columns = (Column("network", "left"), Column("layers state"), Column("autograd keeps"), Column("", "left"))
    print(Table("", columns, tuple(rows)).to_markdown(), end="")


def zoo_checks() -> None:
    """For the zoo's other entries, on two inputs: the bytes their layers state, and those that autograd keeps."""
    import torch

    from archcalc.pytorch.build import build
    from archcalc.pytorch.saved import saved_bytes

    rows: list[tuple[object, ...]] = []
    for name in (one for one in zoo.ENTRIES if one not in _CHECKED and one not in _DEEPER):
        report = _reduced(zoo.ENTRIES[name].build())
        module = build(report.network, report.input, device="meta").to_empty(device="cpu")
        seen = saved_bytes(module, torch.rand(report.input))
        rows.append((name, units.shape(report.input), *_compared(memory(report).kept, seen)))
    columns = (Column("network", "left"), Column("input", "left"), Column("layers state"), Column("autograd keeps"))
    print(Table("", (*columns, Column("", "left")), tuple(rows)).to_markdown(), end="")


def _reduced(network: Network) -> Report:
    """The network on two images of the least size, of a few, that it takes."""
    _, *own = network.input_nodes[0].layer.output()
    for size in _SIZES if len(own) == 3 and own[-1] > max(_SIZES) else ():
        try:
            return analyze(network, (2, own[0], size, size))
        except ShapeError:
            continue
    return analyze(network, (2, *own))


def _compared(stated: int, seen: int) -> tuple[object, ...]:
    return stated, seen, "equal" if stated == seen else units.count(stated - seen)


_MEASURED = (
    *("alexnet", "alexnet-torchvision", "resnet34", "googlenet", "googlenet-torchvision", "mobilenet-v2"),
    *("densenet121", "vit-b-16", "torch:torchvision.models:resnet18", "torch:torchvision.models:mobilenet_v2"),
)


def measured_checks() -> None:
    """For some networks on two images, bytes computed and measured, parts that have a name aside."""
    import torch

    from archcalc.pytorch.allocated import measure
    from archcalc.targets import resolve

    rows: list[tuple[object, ...]] = []
    for name in _MEASURED:
        target = resolve(name, batch="2")
        result = measure(target, memory(target.report(), optimizer="adam"), device=torch.device("cpu"))
        for phase in result.phases:
            if phase.name in ("inference, peak", "forward, end", "step, end"):
                found = phase.measured - sum(phase.parts.values())
                rows.append((name, phase.name, *_compared(phase.computed, found)))
    columns = (Column("network", "left"), Column("phase", "left"), Column("computed"), Column("measured, parts aside"))
    print(Table("", (*columns, Column("", "left")), tuple(rows)).to_markdown(), end="")
