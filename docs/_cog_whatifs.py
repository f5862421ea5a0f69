"""Cog blocks about what-ifs: the rewrites there are, their closed ratios in numbers, what they do to whole networks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from _cog_results import results

from archcalc import analyze, rewrite, units, zoo
from archcalc.errors import SpecError
from archcalc.table import Column, Table
from archcalc.targets import resolve

__all__ = ["measured_what_ifs", "rewrites", "separable_ratios", "what_ifs"]


def _print(headers: tuple[str, ...], rows: Any, left: int = 1) -> None:
    columns = tuple(Column(header, "left" if i < left else "right") for i, header in enumerate(headers))
    print(Table("", columns, tuple(rows)).to_markdown(), end="")


def rewrites() -> None:
    """Every rewrite and its summary."""
    _print(("rewrite", "what it does"), rewrite.summaries().items(), left=2)


def separable_ratios(name: str) -> None:
    """For every k×k convolution of a network the closed ratio, its substitution, and that of the real counts."""
    ratio = rewrite.macs_ratio(rewrite.depthwise_separable)
    letters = {str(letter): letter for letter in ratio.free_symbols}
    before = analyze(zoo.ENTRIES[name].build())
    after = analyze(rewrite.depthwise_separable(before.network))
    found: dict[tuple[str, int, int], list[str]] = {}
    for row in before:
        new = sum(other.macs for other in after if other.name.startswith(f"{row.name}."))
        if not new:
            continue
        layer: Any = row.node.layer
        K, k = layer.out_channels, layer.kernel_size[0]
        closed = Fraction(*ratio.subs({letters["K"]: K, letters["k"]: k}).as_numer_denom())
        if closed != Fraction(new, row.macs):
            raise AssertionError(f"{row.name}: {closed} is not {new}/{row.macs}")
        text = f"1/{K} + 1/{k}² = {closed} = {float(closed):.4f}"
        found.setdefault((text, row.macs, new), []).append(row.name)
    rows = [
        (
            layers[0] if len(layers) == 1 else f"{layers[0]} … {layers[-1]} ({len(layers)})",
            text,
            old,
            new,
            1 / (new / old),
        )
        for (text, old, new), layers in found.items()
    ]
    _print(
        ("layers", "1/K + 1/k²", "MACs", "separable", "times fewer"),
        [(*row[:4], f"{row[4]:.2f}") for row in rows],
    )


def what_ifs(name: str, *texts: str) -> None:
    """A network, and what each rewrite makes of its parameters and MACs."""
    base = resolve(name).report().total
    rows: list[tuple[Any, ...]] = [(name, base.params, None, base.macs, None)]
    for text in texts:
        try:
            total = resolve(f"{name}+{text}").report().total
        except SpecError:
            rows.append((f"+{text}", "applies to no layer", None, None, None))
            continue
        ratios = (units.ratio(total.params / base.params), units.ratio(total.macs / base.macs))
        rows.append((f"+{text}", total.params, ratios[0], total.macs, ratios[1]))
    _print(("network", "params", "ratio", "MACs", "ratio"), rows)


def measured_what_ifs() -> None:
    """Times of rewritten networks beside their own, from results of `archcalc time`."""
    rows = []
    for found in results("time"):
        medians = {(one["network"], one["environment"]["device_name"]): one for one in found}
        for (network, device), one in medians.items():
            base = medians.get((network.partition("+")[0], device))
            if "+" in network and base:
                macs, time = one["macs"] / base["macs"], one["median_s"] / base["median_s"]
                rows.append((network, device, units.ratio(macs), units.seconds(one["median_s"]), units.ratio(time)))
    if rows:
        _print(("network", "device", "MACs", "median", "time"), rows, left=2)
    else:
        print("None recorded yet.")
