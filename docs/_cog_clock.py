"""Cog blocks about counted ratios beside measured ones."""

from __future__ import annotations

from typing import Any

from _cog_results import machine, results

from archcalc.table import Column, Table

__all__ = ["theory_against_clock"]

WAYS = {"channels_last": "channels last", "compiled": "compiled", "tf32": "TF32"}


def theory_against_clock() -> None:
    """Every results file of benchmarks/clock.py: a table for each machine, a line for each pair."""
    if not results("clock"):
        print("None yet.")
    for record in results("clock"):
        print(f"{machine(record['environment'])}\n")
        columns = [Column(name, "left") for name in ("what changes", "from", "to")]
        columns += map(Column, ("MACs an image", "time an image", "IQR", "the first to itself", "IQR"))
        pairs = record["pairs"]
        rows = [
            (None if i else what, *_cells(one))
            for what in dict.fromkeys(one["what"] for one in pairs)
            for i, one in enumerate(one for one in pairs if one["what"] == what)
        ]
        print(Table("", tuple(columns), tuple(rows)).to_markdown())


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    first, second = one["first"], one["second"]
    images = second["batch"] / first["batch"]
    counted = second["macs"] / first["macs"] / images
    taken, same = one["ratio"], one["same"]
    return (
        _label(first),
        _label(second),
        f"×{counted:.3f}",
        f"×{taken['median'] / images:.3f}",
        f"{taken['iqr'] / images:.3f}",
        f"×{same['median']:.3f}",
        f"{same['iqr']:.3f}",
    )


def _label(side: dict[str, Any]) -> str:
    ways = list(side["choices"])
    ways += [f"batch {side['batch']}"] if side["batch"] > 1 else []
    ways += [side["dtype"]] if side["dtype"] != "float32" else []
    ways += [name for key, name in WAYS.items() if side[key]]
    return ", ".join([side["network"], *ways])
