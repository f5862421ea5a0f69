"""Cog blocks about whole libraries of models: how many agree with FlopCounterMode, and why the others do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from _cog_markdown import markdown

from archcalc.conventions import CONVENTIONS

__all__ = ["library_differences", "library_not_run", "library_resized", "library_summary", "library_uncounted"]

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
Models = dict[str, dict[str, Any]]


@cache
def recorded(library: str) -> tuple[dict[str, str], Models]:
    """Versions, and the record of every model. Raises RuntimeError where archcalc is wrong, or nothing says why not."""
    found = json.loads((RESULTS / f"library-{library}.json").read_text(encoding="utf-8"))
    models: Models = found["models"]
    for name, one in models.items():
        wrong = [key for key in ("params_equal", "buffers_equal", "unchanged") if one.get(key) is False]
        wrong += [key for key in ("refused", "crashed") if key in one]
        left = theirs(one) - one["macs"] - sum(one["causes"].values()) if compared(one) else 0
        if wrong or left or one.get("resized") == "differs":
            raise RuntimeError(f"{library}, {name}: {wrong or left or 'another size'}")
    return found["versions"], models


def compared(one: dict[str, Any]) -> bool:
    """Whether FlopCounterMode counted the model too."""
    return "flop_counter_macs" in one


def theirs(one: dict[str, Any]) -> int:
    """Half of the FLOPs that it counted."""
    return int(one["flop_counter_macs"])


def library_summary() -> None:
    """For each library how many models were traced, and how many agree."""
    rows: list[tuple[object, ...]] = []
    for library in ("timm", "transformers"):
        versions, models = recorded(library)
        traced = [one for one in models.values() if "macs" in one]
        both = [one for one in traced if compared(one)]
        rows.append(
            (
                f"{library} {versions[library]}",
                len(models),
                len(traced),
                sum(not one["with_data"] for one in traced),
                sum(one["params_equal"] and one["buffers_equal"] and one["unchanged"] for one in traced),
                len(both),
                sum(theirs(one) == one["macs"] for one in both),
                sum(theirs(one) != one["macs"] for one in both),
            )
        )
    facts = ("models", "traced", "of these without data", "parameters and buffers equal, module unchanged")
    counts = ("counted by FlopCounterMode", "MACs equal", "different, with a cause")
    markdown(("library", *facts, *counts), rows, right=(*facts, *counts))


def library_differences() -> None:
    """The models on which FlopCounterMode counts another number, and why."""
    rows = [
        (f"`{name}`", one["macs"], theirs(one), ", ".join(one["causes"]))
        for library in ("timm", "transformers")
        for name, one in recorded(library)[1].items()
        if compared(one) and theirs(one) != one["macs"]
    ]
    markdown(("model", "MACs", "FlopCounterMode", "cause"), rows, right=("MACs", "FlopCounterMode"))
    named = dict.fromkeys(cause for _, _, _, causes in rows for cause in causes.split(", "))
    for cause in CONVENTIONS["torch"].causes:
        if cause.name in named:
            print(f"\n*{cause.name[0].upper()}{cause.name[1:]}*: {cause.because}")


def library_uncounted() -> None:
    """The operations that no rule states, and the models in which they run."""
    found: dict[str, list[str]] = {}
    for library in ("timm", "transformers"):
        for name, one in recorded(library)[1].items():
            for op in one.get("uncounted", ()):
                found.setdefault(op, []).append(f"`{name}`")
    rows = [(f"`{op}`", len(names), ", ".join(_some(names))) for op, names in sorted(found.items())]
    markdown(("operation", "models", "among them"), rows, right=("models",))


def _some(names: list[str], most: int = 4) -> Iterator[str]:
    yield from names[:most]
    if len(names) > most:
        yield "…"


def library_resized() -> None:
    """How many models were analysed at another size, and what came out."""
    found = [one["resized"] for one in recorded("timm")[1].values() if "resized" in one]
    equal = sum(one == "equal" for one in found)
    print(
        f"Of {len(found)} models of timm, one of each of its files, {equal} give at another size and batch, row for "
        f"row, the trace that is made there. In the other {len(found) - equal} a size is baked in (position "
        "embeddings, windows, views of a batch of one), and the error names the row."
    )


def library_not_run() -> None:
    """Models that are not in the comparison, by reason."""
    _, models = recorded("transformers")
    unbuilt = [f"`{name}`" for name, one in models.items() if "unbuilt" in one]
    large = [f"`{name}`" for name, one in models.items() if "too large" in one.get("failed", "")]
    failed = [f"`{name}`" for name, one in models.items() if "failed" in one and "too large" not in one["failed"]]
    print(f"- Not made of the default configuration: {', '.join(unbuilt)}.")
    print(f"- Raise an error of their own on the inputs tried here, also without archcalc: {', '.join(failed)}.")
    if large:
        print(f"- Need data, and are too large to be given it here: {', '.join(large)}.")
