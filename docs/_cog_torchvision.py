"""Cog blocks about torchvision: every model traced, checked against FlopCounterMode and what is published."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

from _cog_markdown import markdown

import archcalc as ac
from archcalc import units
from archcalc.analysis import Report
from archcalc.errors import ShapeError

__all__ = ["torchvision_classification", "torchvision_others"]

_OPTIONS = {
    "googlenet": {"aux_logits": False, "init_weights": False},  # its published parameters leave the auxiliary heads out
    "inception_v3": {"init_weights": False},
}
_VIEWED = (520, 960)  # what RAFT's weights were evaluated on


@cache
def made(name: str, **options: Any) -> Any:
    """A model of torchvision without data."""
    from torchvision.models import get_model

    from archcalc.pytorch.load import without_data

    return without_data(lambda: get_model(name, weights=None, **_OPTIONS.get(name, {}) | options)).eval()


@cache
def traced(name: str, **options: Any) -> Report:
    """The report of a classification model of torchvision on its usual image; made once for all pages."""
    side = side_of(name)
    return ac.analyze(ac.trace(made(name, **options), (1, 3, side, side), name=name))


def side_of(name: str) -> int:
    """The side of the images that a classification model of torchvision is usually given."""
    return 299 if name == "inception_v3" else 224


def _verified(report: Report, module: Any, *shapes: tuple[int, ...]) -> Report:
    """The report, if its MACs are FlopCounterMode's and its parameters the module's. Raises RuntimeError."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module.to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*(torch.empty(shape, device="meta") for shape in shapes))
    theirs = counter.get_total_flops() / 2, sum(parameter.numel() for parameter in module.parameters())
    if (report.total.macs, report.total.params) != theirs:
        total = report.total
        raise RuntimeError(
            f"{report.network.name} on {shapes}: {total.macs} MACs, {total.params} params; torch has {theirs}"
        )
    return report


def _uncounted(report: Report) -> str:
    """The operations that a report has no count for, and how many of each."""
    found = Counter(row.kind for row in report if not row.counted)
    return ", ".join(f"{times} `{kind}`" for kind, times in found.items()) or "none"


def _published(name: str) -> dict[int, tuple[set[int], list[float]]]:
    """The published parameters and billions of MACs by size of the weights' images."""
    from torchvision.models import get_model_weights

    found: dict[int, tuple[set[int], list[float]]] = {}
    for weights in get_model_weights(name):
        side = weights.transforms.keywords["crop_size"]
        params, giga = found.setdefault(side, (set(), []))
        params.add(weights.meta["num_params"])
        if weights.meta["_ops"] not in giga:
            giga.append(weights.meta["_ops"])
    return found


def torchvision_classification() -> None:
    """Every classification model of torchvision, at its usual size and at the sizes of its published weights."""
    from torchvision import models

    rows: list[tuple[object, ...]] = []
    for name in models.list_models(module=models):
        module, usual, side = made(name), traced(name), side_of(name)
        published = _published(name)
        for size in sorted({side, *published}):
            report, of = usual, module
            if size != side:
                try:
                    report = ac.analyze(usual.network, (1, 3, size, size))
                except ShapeError:  # a size is baked in
                    of = made(name, **({"image_size": size} if name.startswith("vit_") else {}))
                    report = ac.analyze(ac.trace(of, (1, 3, size, size), name=name))
            total = _verified(report, of, (1, 3, size, size)).total
            params, given = published.get(size, ({total.params}, []))
            if params != {total.params}:
                raise RuntimeError(f"{name} at {size}: {params} parameters are published, not {total.params}")
            agrees = ["yes" if round(total.macs / 1e9, 3) == giga else "**no**" for giga in given]
            rows.append(
                (f"`{name}`", f"{size}×{size}", total.params, total.macs, ", ".join(map(str, given)), ", ".join(agrees),
                 len(report.rows), _uncounted(report))
            )  # fmt: skip
    headers = ("model", "image", "params", "MACs", "published, in G", "ours rounds to it", "rows", "uncounted")
    markdown(headers, rows, right=(*headers[2:5], "rows"))


def torchvision_others() -> None:
    """torchvision's models for segmentation, video and optical flow."""
    from torchvision import models

    rows: list[tuple[object, ...]] = []
    for group in (models.segmentation, models.video, models.optical_flow):
        for name in models.list_models(module=group):
            weights = list(models.get_model_weights(name))[-1]
            options: dict[str, Any] = {}
            if group is models.segmentation:
                options = {"weights_backbone": None} | ({} if name.startswith("lraspp") else {"aux_loss": True})
                shapes: tuple[tuple[int, ...], ...] = ((1, 3, 520, 520),)
            elif group is models.video:
                shapes = ((1, 3, 16, *weights.transforms.keywords["crop_size"]),)
            else:
                shapes = ((1, 3, *_VIEWED),) * 2
            module = made(name, **options)
            report = ac.analyze(ac.trace(module, shapes, name=name))
            total = _verified(report, module, *shapes).total
            if total.params != weights.meta["num_params"]:
                raise RuntimeError(
                    f"{weights}: {weights.meta['num_params']} parameters are published, not {total.params}"
                )
            giga, task = weights.meta["_ops"], group.__name__.rpartition(".")[2].replace("_", " ")
            rows.append(
                (f"`{name}`", task, " and ".join(map(units.shape, shapes)),
                 total.params, total.macs, giga, "yes" if round(total.macs / 1e9, 3) == giga else "no",
                 len(report.rows), _uncounted(report))
            )  # fmt: skip
    headers = ("model", "for", "input", "params", "MACs", "published, in G", "ours rounds to it", "rows", "uncounted")
    markdown(headers, rows, right=(*headers[3:6], "rows"))
