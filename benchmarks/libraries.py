"""Every model of timm, or of transformers, traced and compared with its own parameters and with FlopCounterMode.

Usage: python benchmarks/libraries.py timm|transformers [--only REGEX] [--output FILE]

Models are made without weights, as their libraries make them by default; those of transformers have two layers where
they can be given a number. What a results file has of the same versions is not run again, but for what --only names.
The page docs/libraries.md is made of the results.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import inspect
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from speed import RESULTS
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archcalc.analysis import Report, analyze
from archcalc.conventions import CONVENTIONS
from archcalc.errors import ShapeError, TraceError
from archcalc.pytorch.counters.base import unfused
from archcalc.pytorch.known import Known, Literals
from archcalc.pytorch.load import without_data
from archcalc.pytorch.shadow import shadow_of
from archcalc.pytorch.trace import trace

Record = dict[str, Any]
Given = dict[str, Tensor]

LARGE = 4 * 10**8
"""Models of more parameters are not run with data, which would take 4 bytes for each."""


def timm_models(wanted: Callable[[str], bool]) -> Iterator[tuple[str, Callable[[], Record]]]:
    """Every architecture of timm, on an image of the size its authors use: first one of each file, at two sizes."""
    import timm

    def record(name: str, resized: bool) -> Record:
        module = without_data(lambda: timm.create_model(name, pretrained=False))
        config: Any = module.default_cfg
        size = tuple(config["input_size"])
        found = compared(module, {"x": torch.empty((1, *size))})
        return found | ({"resized": at_another_size(module, size)} if resized and "macs" in found else {})

    first = {timm.model_entrypoint(name).__module__: name for name in reversed(timm.list_models())}.values()
    for name in sorted(timm.list_models(), key=lambda name: name not in first):
        if wanted(name):
            yield name, partial(record, name, name in first)


def at_another_size(module: nn.Module, size: tuple[int, ...]) -> str:
    """What analysing the trace at another size gives: the trace made there, or where it is baked in."""
    other = (2, *size[:-2], size[-2] + 64, size[-1] + 64)
    net = trace(module, (1, *size))
    try:
        report = analyze(net, other)
    except ShapeError as error:
        return f"baked in: {error}"
    rows, fresh = (
        [(row.name, row.output, row.params, row.ledger) for row in one]
        for one in (report, analyze(trace(module, other)))
    )
    return "equal" if rows == fresh else "differs"


def transformers_models(wanted: Callable[[str], bool]) -> Iterator[tuple[str, Callable[[], Record]]]:
    """Every architecture of transformers that AutoModel makes of a configuration."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    library: Any = transformers  # its functions have no types
    library.logging.set_verbosity_error()

    def record(kind: Any) -> Record:
        told: Record = {}
        for settings in ({"num_hidden_layers": 2}, {"num_hidden_layers": 2, "use_cache": False}, {}):
            try:
                config = kind(**settings)
                module = without_data(partial(library.AutoModel.from_config, config))
            except Exception as error:
                told = {"unbuilt": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
                continue
            for given in inputs(module, config):
                found = compared(module, given)
                told = found if "macs" in found or "refused" in found or not told else told
                if "macs" in found or "refused" in found:
                    return {"model": type(module).__name__, "settings": settings, **found}
            told = {"model": type(module).__name__, "settings": settings, **told}
        return told

    for kind in dict.fromkeys(MODEL_MAPPING):
        if wanted(kind.__name__):
            yield kind.__name__, partial(record, kind)


def inputs(module: nn.Module, config: Any) -> Iterator[Given]:
    """What a model of transformers may take: ids, pixels, sound, or two of them."""
    takes = inspect.signature(module.forward).parameters
    parts = [
        config,
        *(
            getattr(config, one, None)
            for one in ("vision_config", "text_config", "audio_config", "backbone_config", "encoder")
        ),
    ]

    def setting(default: Any, *names: str) -> Any:
        return next((value for one in parts for name in names if (value := getattr(one, name, None))), default)

    side = setting(224, "image_size")
    side = tuple(side.values()) if isinstance(side, dict) else side
    image = (
        setting(3, "num_channels", "in_channels", "in_chans"),
        *(side if isinstance(side, list | tuple) else (side,) * 2),
    )
    frames = getattr(config, "num_frames", None)
    mels = setting(80, "num_mel_bins", "feature_size", "input_dim")
    patches = hasattr(config, "num_mel_bins") and hasattr(config, "max_length")
    possible = {
        "input_ids": torch.zeros(1, 16, dtype=torch.long),
        "pixel_values": torch.zeros(1, *((frames,) if frames else ()), *image),
        "input_values": torch.zeros(1, *((config.max_length, mels) if patches else (16000,))),
        "input_features": torch.zeros(1, mels, 3000),
    }
    across = {"input_features": torch.zeros(1, 3000, mels)} if "input_features" in takes else {}
    quiet = {"decoder_input_ids": torch.zeros(1, 8, dtype=torch.long)} if "decoder_input_ids" in takes else {}
    possible = {name: value for name, value in possible.items() if name in takes}
    main = getattr(module, "main_input_name", "")
    names = sorted(possible, key=lambda name: name != main)
    for chosen in (*((name,) for name in names), *combinations(names, 2)):
        yield {name: possible[name] for name in chosen} | quiet
    if across:
        yield across | quiet


def compared(module: nn.Module, given: Given) -> Record:
    """One record: what the trace says, what the module's parameters and FlopCounterMode say, and why they differ."""
    record: Record = {"input": {name: list(one.shape) for name, one in given.items()}}
    args: tuple[Tensor, ...] = (given["x"],) if list(given) == ["x"] else ()
    kwargs: dict[str, Any] = {} if args else dict(given)
    before = pictured(module)
    large = sum(one.numel() for one in module.parameters()) > LARGE
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("error" if large else "always", ".*traced with real tensors")
        try:
            report = analyze(trace(module, args, **kwargs))
        except UserWarning as warning:
            return record | {"failed": f"too large to be run with data: {warning}"}
        except TraceError as error:
            where = torch.device("cpu" if any(map(_of_data, caught)) else "meta")
            return record | {"refused" if runs(module, args, kwargs, where) else "failed": str(error)}
    with_data = next((str(one.message) for one in filter(_of_data, caught)), None)
    record |= {
        "params": report.total.params,
        "params_equal": report.total.params == sum(one.numel() for one in module.parameters()),
        "buffers_equal": report.total.buffers == sum(one.numel() for one in module.buffers()),
        "unchanged": pictured(module) == before,
        "macs": report.total.macs,
        "uncounted": sorted({row.kind for row in report.uncounted}),
        "with_data": with_data,
    }
    for device in ("cpu",) if with_data else ("meta",) if large else ("meta", "cpu"):
        try:
            theirs = flop_counter(module, args, kwargs, torch.device(device))
        except Exception as error:
            record["flop_counter_failed"] = f"{type(error).__name__}: {error}"
        else:
            record.pop("flop_counter_failed", None)
            return record | {"flop_counter_macs": theirs, "causes": causes(report)}
    return record


def causes(report: Report) -> dict[str, int]:
    """What FlopCounterMode counts more or less than MACs, by cause."""
    amounts = {one.name: sum(map(one.amount, report)) for one in CONVENTIONS["torch"].causes}
    return {name: amount for name, amount in amounts.items() if amount}


def flop_counter(module: nn.Module, args: tuple[Tensor, ...], kwargs: Given, device: torch.device) -> float:
    """Half of what FlopCounterMode counts on a copy of the module."""
    copy = shadow_of(module, device).requires_grad_(False)
    own = (*args, *kwargs.values())
    args, kwargs = tuple(one.to(device) for one in args), {name: one.to(device) for name, one in kwargs.items()}
    known = Known(zip((*args, *kwargs.values()), own, strict=True))
    with torch.no_grad(), unfused(), warnings.catch_warnings(), FlopCounterMode(display=False) as counter:
        warnings.simplefilter("ignore")
        with Literals(known), known:
            copy(*args, **kwargs)
    return int(counter.get_total_flops()) / 2


def _of_data(warning: warnings.WarningMessage) -> bool:
    return "traced with real tensors" in str(warning.message)


def runs(module: nn.Module, args: tuple[Tensor, ...], kwargs: Given, device: torch.device) -> bool:
    """Whether the module runs on these inputs without archcalc."""
    try:
        flop_counter(module, args, kwargs, device)
    except Exception:
        return False
    return True


def pictured(module: nn.Module) -> dict[str, Mapping[str, Any]]:
    """What every module holds: flags, hooks, attributes, and which tensors, in which version."""
    return {
        path: {
            key: [(name, id(one), getattr(one, "_version", 0)) for name, one in value.items()]
            if isinstance(value, dict)
            else (id(value), repr(value) if isinstance(value, bool | int | float | str | list | tuple) else "")
            for key, value in vars(part).items()
        }
        for path, part in module.named_modules()
    }


LIBRARIES = {"timm": timm_models, "transformers": transformers_models}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--only", type=re.compile, help="models whose name has this in it")
    parser.add_argument("--output", type=Path, help="write here instead")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    try:
        versions = {name: importlib.metadata.version(name) for name in ("torch", arguments.library)}
    except importlib.metadata.PackageNotFoundError:
        print(f"{arguments.library} is not installed: nothing is compared")
        return
    path = arguments.output or RESULTS / f"library-{arguments.library}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    models: dict[str, Record] = known.get("models", {}) if known.get("versions") == versions else {}
    anew = arguments.only

    def wanted(name: str) -> bool:
        return bool(anew.search(name)) if anew else name not in models

    for name, record in LIBRARIES[arguments.library](wanted):
        try:
            models[name] = record()
        except Exception as error:
            models[name] = {"crashed": f"{type(error).__name__}: {error}"}
        gc.collect()
        gc.freeze()  # what is left now is imported, and need not be looked through each time
        write(path, {"schema": "archcalc.library/1", "versions": versions}, models)
        print(name, said(models[name]), flush=True)


def said(record: Record) -> str:
    """In a word, what came out."""
    if "macs" not in record:
        return "; ".join(
            f"{key}: {record[key]}" for key in ("refused", "failed", "unbuilt", "crashed") if key in record
        )
    doubts = [key for key in ("params_equal", "buffers_equal", "unchanged") if not record[key]]
    predicted = record["macs"] + sum(record.get("causes", {}).values())
    doubts += ["macs"] if predicted != record.get("flop_counter_macs") else []
    doubts += [record["resized"]] if record.get("resized") == "differs" else []
    return ", ".join(doubts) or "agrees"


def write(path: Path, facts: Record, models: Mapping[str, Record]) -> None:
    """One line a model."""
    lines = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(models[name], ensure_ascii=False)}" for name in sorted(models)
    )
    head = json.dumps(facts)[:-1]
    path.write_text(f'{head}, "models": {{\n{lines}\n}}}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
