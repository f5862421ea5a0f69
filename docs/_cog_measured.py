"""Cog blocks about measurements: what benchmarks/ recorded of speed, traces and times, with the machine."""

from __future__ import annotations

from itertools import groupby

from _cog_markdown import markdown
from _cog_results import machine, results

from archcalc import units

__all__ = ["speed", "times", "traces"]


def speed() -> None:
    """Every results file of benchmarks/speed.py."""
    for found in results("speed"):
        host = found["machine"]
        print(f"**{host['cpu']}, {host['cores']} cores**, Python {host['python']}, {host['system']}; "
              f"{found['date']}; torch {found['versions']['torch']}, fvcore {found['versions']['fvcore']}, "
              f"torchinfo {found['versions']['torchinfo']}; "
              f"load average {found['load_average'][0]:.1f} when it began.\n")  # fmt: skip
        rows: list[tuple[object, ...]] = []
        for report in found["reports"]:
            for tool, median in report["median_seconds"].items():
                ratio = median / report["median_seconds"]["archcalc"]
                rows.append((f"`{report['network']}`", tool, units.seconds(median), units.ratio(ratio)))
        headers = ("network", "full report by", "median", "against archcalc")
        markdown(headers, rows, right=headers[2:])
        process, memory = found["process"], found["memory"]
        print(
            f"\nWhole process: `{process['command']}` {units.seconds(process['median_seconds'])}, "
            f"`{process['against']}` {units.seconds(process['against_median_seconds'])}; "
            f"median of {process['rounds']} paired ratios {units.ratio(process['median_ratio'])}."
        )
        print("\nMost memory that Python held at once while a report was made and read:\n")
        markdown(
            ("network", "peak", "weights in float32"),
            ((f"`{one['network']}`", units.mb(one["peak_bytes"]), units.mb(one["weight_bytes"])) for one in memory),
            right=("peak", "weights in float32"),
        )
        print()


def traces() -> None:
    """Every results file of benchmarks/trace.py."""
    if not results("trace"):
        print("None yet.")
    for found in results("trace"):
        host, versions, models = found["machine"], found["versions"], found["models"]
        print(f"**{host['cpu']}, {host['cores']} cores**, Python {host['python']}, {host['system']}; "
              f"{found['date']}; torch {versions['torch']}, torchvision {versions['torchvision']}; "
              f"load average {found['load_average'][0]:.1f} when it began; {found['rounds']} rounds.\n")  # fmt: skip
        rows: list[tuple[object, ...]] = []
        for one in sorted(models, key=lambda one: one["median_ratio"]):
            ours, theirs = one["trace_median_seconds"], one["flop_counter_median_seconds"]
            cells = units.seconds(ours), units.seconds(theirs), units.ratio(one["median_ratio"])
            rows.append((f"`{one['model']}`", one["nodes"], *cells))
        whole = units.seconds(found["trace_seconds"]), units.seconds(found["flop_counter_seconds"])
        nodes = sum(one["nodes"] for one in models)
        rows.append((f"**all {len(models)}**", nodes, *whole, units.ratio(found["ratio"])))
        headers = ("model", "nodes", "trace", "FlopCounterMode", "median ratio")
        markdown(headers, rows, right=headers[1:])
        print("\nThe most memory that a process held, importing included:\n")
        markdown(
            ("traced and analysed", "peak", "over imports alone", "weights in float32"),
            (
                (
                    f"`{one['model']}`",
                    units.mb(one["peak_bytes"]),
                    units.mb(one["peak_bytes"] - one["imports_peak_bytes"]),
                    units.mb(one["weight_bytes"]),
                )
                for one in found["memory"]
            ),
            right=("peak", "over imports alone", "weights in float32"),
        )
        print()


def times() -> None:
    """Every results file of `archcalc time`, a line for each network and device."""
    if not results("time"):
        print("None yet.")
    for found in results("time"):
        headers = ("network", "input", "dtype", "MACs", "median", "IQR", "images/s", "GMAC/s")
        for device, group in groupby(found, key=lambda one: machine(one["environment"])):
            print(f"{device}\n")
            rows = (
                (
                    f"`{one['network']}`",
                    units.shape(one["input"]),
                    one["environment"]["dtype"] + (", channels last" if one["channels_last"] else ""),
                    one["macs"],
                    units.seconds(one["median_s"]),
                    units.seconds(one["iqr_s"]),
                    f"{one['images_per_s']:,.1f}",
                    f"{one['gmacs_per_s']:,.1f}",
                )
                for one in group
            )
            markdown(headers, rows, right=headers[3:])
            print()
