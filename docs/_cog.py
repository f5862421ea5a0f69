"""What the pages' cog blocks call. Everything is printed by the library or the command line, run in this process.

Regenerate:  python -m cogapp -P -r -I docs -p "from _cog import *" README.md docs/*.md docs/solutions/*.md
Verify:      python -m cogapp -P --check --diff -I docs -p "from _cog import *" README.md docs/*.md docs/solutions/*.md

Nothing here may depend on the machine: no timings, device names or versions but those read from benchmarks/results.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from importlib import import_module
from inspect import getdoc
from itertools import groupby
from pathlib import Path
from typing import Any

from _cog_clock import theory_against_clock
from _cog_counters import causes, counter_facts, counters_on_networks, counters_summary
from _cog_libraries import library_differences, library_not_run, library_resized, library_summary, library_uncounted
from _cog_markdown import markdown
from _cog_measured import speed, times, traces
from _cog_memory import measured_checks, saved_checks, zoo_checks
from _cog_plot import drawing, quantities
from _cog_published import errata, every_figure, filters_against_columns, published, verdicts
from _cog_receptive import gradient_checks, stacks
from _cog_roofline import calibration_grid, forecasts, rooflines
from _cog_solutions import figures
from _cog_spec import spec_error, spec_run, spec_source
from _cog_time import layer_times, step_times, timed_lines, two_runs
from _cog_torchvision import torchvision_classification, torchvision_others
from _cog_whatifs import measured_what_ifs, rewrites, separable_ratios, what_ifs
from _cog_zoo import zoo_families, zoo_references

import archcalc as ac
from archcalc import columns, layers, units, zoo
from archcalc.analysis import Row
from archcalc.cli import app
from archcalc.cli import main as command_line
from archcalc.layers import KINDS, Conv2d, Linear
from archcalc.working import Equation, Worked, leaf, worked

__all__ = [
    "calibration_grid",
    "causes",
    "column_names",
    "counter_facts",
    "counters_on_networks",
    "counters_summary",
    "crosscheck",
    "drawing",
    "errata",
    "every_figure",
    "explain",
    "figure3",
    "figures",
    "filters_against_columns",
    "forecasts",
    "gradient_checks",
    "json_contract",
    "layer_kinds",
    "layer_times",
    "library_differences",
    "library_not_run",
    "library_resized",
    "library_summary",
    "library_uncounted",
    "measured_checks",
    "measured_what_ifs",
    "networks",
    "operations",
    "options",
    "published",
    "quantities",
    "result",
    "rewrites",
    "rooflines",
    "run",
    "saved_checks",
    "separable_ratios",
    "spec_error",
    "spec_run",
    "spec_source",
    "speed",
    "stacks",
    "step_times",
    "table",
    "theory_against_clock",
    "timed_lines",
    "times",
    "torchvision_classification",
    "torchvision_others",
    "traces",
    "two_runs",
    "verdicts",
    "what_ifs",
    "zoo_checks",
    "zoo_families",
    "zoo_references",
]

ROOT = Path(__file__).resolve().parent.parent
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# The command line


def call(command: str) -> str:
    """What the command line prints in this process. Raises RuntimeError where it fails."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    error = io.StringIO()
    status: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            command_line(shlex.split(command))
        except SystemExit as end:
            status = end.code or 0
    out.flush()
    if status:
        raise RuntimeError(f"archcalc {command} ends with {status}: {error.getvalue()}")
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def run(*commands: str) -> None:
    """The commands and what they print, in a fence; tables in the characters of a terminal."""
    print("```console")
    for command in commands:
        drawn = command.split()[0] not in ("explain", "export", "code") and "--format" not in command
        print(f"$ archcalc {command}")
        print(call(f"{command} --unicode" if drawn else command), end="")
    print("```")


def table(command: str) -> None:
    """The command in a fence, and below it the Markdown it prints."""
    written = call(f"{command} --format markdown")
    print(f"```console\n$ archcalc {command} --format markdown\n```\n")
    print(written, end="")


def explain(network: str, *layers: str, options: str = "") -> None:
    """The explanations of some layers of a network, or of all, in one fence; the letters are told once, at the end."""
    print("```console")
    for i, layer in enumerate(layers or ("",)):
        command = " ".join(part for part in ("explain", network, layer, options) if part)
        lines = call(command).splitlines()
        print(f"{'' if i == 0 else chr(10)}$ archcalc {command}")
        print("\n".join(lines if i == len(layers or ("",)) - 1 else lines[:-2]))
    print("```")


# Python


_NAMESPACES: dict[str, dict[str, Any]] = {}


def result(*, markdown: bool = False) -> None:
    """What the fence of Python above prints, or its last line's value, as a notebook shows it; Markdown as it is."""
    cog: Any = import_module("cog")
    text = (ROOT / cog.inFile).read_text(encoding="utf-8")
    above = "".join(text.splitlines(keepends=True)[: cog.firstLineNum])
    source = PYTHON.findall(above)[-1]
    printed = evaluate(source, _NAMESPACES.setdefault(cog.inFile, {}))
    print(printed if markdown else f"```text\n{printed}\n```")


def evaluate(source: str, namespace: dict[str, Any]) -> str:
    """Run statements and return what they print, their last expression's value with it."""
    import ast

    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(tree, "<example>", "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<example>", "eval"), namespace)
            if value is not None:
                print(value if isinstance(value, str) else repr(value))
    return out.getvalue().rstrip("\n")


# Lists out of the code


def networks() -> None:
    """Every network of the zoo with its choices."""
    rows = []
    for entry in zoo.ENTRIES.values():
        total = ac.analyze(entry.build()).total
        choices = ", ".join(f"`{name}={str(value).lower() if isinstance(value, bool) else value}`"
                            for name, value in entry.choices.items())  # fmt: skip
        rows.append((f"`{entry.name}`", entry.summary, total.params, total.macs, choices))
    markdown(("network", "what it is", "params", "MACs", "choices (`--set`)"), rows, right=("params", "MACs"))


def column_names() -> None:
    """Every column with its meaning."""
    markdown(("column", "meaning"), ((f"`{name}`", meaning) for name, meaning in columns.names().items()))


def options() -> None:
    """Every option, the commands that take it, and its meaning."""
    import typer

    commands: dict[tuple[str, str], list[str]] = {}
    for name, command in typer.main.get_command(app()).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                names = "/".join((*parameter.opts, *parameter.secondary_opts))
                choices = "|".join(getattr(parameter.type, "choices", ()))
                given = f"`{names} {parameter.metavar or choices}`" if parameter.metavar or choices else f"`{names}`"
                commands.setdefault((given, parameter.help), []).append(name)
    rows = ((given, ", ".join(names), meaning) for (given, meaning), names in commands.items())
    markdown(("option", "commands", "meaning"), rows)


FIELDS: Mapping[str, Any] = {
    "shape": (1, 8, 6, 6),
    "out_channels": 4,
    "out_features": 4,
    "kernel_size": 2,
    "output_size": 2,
    "norm_type": 2.0,
    "size": 5,
    "stride": 2,
    "channels": 8,
    "groups": 2,
    "num_groups": 2,
    "normalized_shape": (6,),
    "hidden_size": 4,
    "num_embeddings": 10,
    "embedding_dim": 4,
    "num_heads": 2,
    "table": ((0, 1), (1, 2), (0, 1, 2)),
    "length": 5,
    "threshold": 0.0,
    "value": 0.0,
    "upscale_factor": 2,
    "downscale_factor": 2,
    "padding": 1,
    "dim": 1,
    "unflattened_size": (2, 4),
}
"""A value for every field that has no default, from which the examples of the list of kinds are made."""

SHAPES: Mapping[str, tuple[tuple[int, ...], ...]] = {
    **dict.fromkeys(("Linear", "Bilinear", "RNNCell", "LSTMCell", "GRUCell"), ((1, 8),)),
    **dict.fromkeys(("RNN", "LSTM", "GRU"), ((5, 1, 8),)),
    **dict.fromkeys(("Embedding", "EmbeddingBag"), ((1, 5),)),
    **dict.fromkeys(("Concat", "Add"), ((1, 8, 6, 6), (1, 8, 6, 6))),
    "Bilinear": ((1, 8), (1, 8)),
    **dict.fromkeys(("MultiheadAttention", "ClassToken", "PositionalEmbedding", "TakeToken"), ((1, 5, 8),)),
    "RBF": ((1, 8),),
    "Input": (),
}


CHOSEN: Mapping[str, Mapping[str, Any]] = {
    **{name: {"scale_factor": 2.0} for name in ("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d")},
    **{name: {"output_size": 3} for name in ("FractionalMaxPool2d", "FractionalMaxPool3d")},
}
"""Fields without which a kind makes no sense, though each has a default."""


def layer_kinds() -> None:
    """Every layer kind by family: what it is, its fields, the loops and operations of its nests on a small input."""
    families: dict[str, list[tuple[object, ...]]] = {}
    for name, kind in KINDS.items():
        module = import_module(kind.__module__)
        if not kind.__module__.startswith("archcalc.layers.") or name not in layers.__all__:
            continue
        required = [field.name for field in fields(kind) if field.default is MISSING]
        sizes = {"1d": (6,), "3d": (6, 6, 6)}.get(name[-2:], (6, 6))
        shapes = SHAPES.get(name, ((1, 8, *sizes),))
        extra = dict(CHOSEN.get(name, {}))
        modes = {"kernel_size": tuple(2 for _ in sizes)} if "kernel_size" in required else {}
        layer = kind(**{field: FIELDS[field] for field in required} | modes | extra)
        loops = "<br>".join(
            f"`{' '.join(nest.loops)}`: {', '.join(f'{times} {op}' for op, times in nest.ops.items()) or 'nothing'}"
            for nest in layer.nests(*shapes)
        )
        given = ", ".join(f"`{field.name}`" for field in fields(kind))
        row = (f"`{name}`", _summary(kind), given, loops or "none: moves data")
        families.setdefault((getdoc(module) or "").partition("\n")[0], []).append(row)
    for family, rows in families.items():
        print(f"### {family.partition(':')[0].rstrip('.')}\n")
        markdown(("kind", "what it does", "fields", "loops: operations of one iteration"), rows)
        print()


def _summary(kind: type) -> str:
    return " ".join((getdoc(kind) or "").partition("\n\n")[0].split())


def operations() -> None:
    """Every operation that a ledger may hold."""
    markdown(("operation", "name in tables"), ((f"`{op}`", name) for op, name in columns.OPERATIONS.items()))


def json_contract(network: str, layer: str) -> None:
    """The JSON of a network with one layer of it, lists of numbers on one line."""
    record = json.loads(call(f"show {network} --format json"))
    record["layers"] = [one for one in record["layers"] if one["name"] == layer]
    text = json.dumps(record, ensure_ascii=False, indent=1)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    print(f"```json\n{text}\n```")


# The checks


def crosscheck(network: str, **choices: Any) -> None:
    """The check of a network against PyTorch modules and other counters, on the CPU. Raises RuntimeError."""
    from archcalc.pytorch.crosscheck import check

    entry = zoo.find(network)
    report = check(entry.build(**choices), entry=entry, choices=choices, device="cpu")
    if not report.ok:
        raise RuntimeError(report.table().to_terminal())
    whole = report.table()
    shown = replace(whole, title="", notes=())  # the notes name operations of one PyTorch release
    print(shown.to_markdown(), end="")


# The lab's problems and the papers' figures


def figure3(*names: str) -> None:
    """Parameters of the weight layers by output size, as (f_h·f_w·C_{i-1} + b)·C_i, equal layers in a row as one."""
    reports = [ac.analyze(_biased(name)) for name in names]
    sizes = dict.fromkeys(_size(row) for report in reports for row in report if _has_weights(row))
    rows: list[tuple[object, ...]] = []
    ordered = sorted(sizes, key=lambda size: -size)
    for size in ordered:
        cells = []
        for report in reports:
            here = [row for row in report if _has_weights(row) and _size(row) == size]
            lines = [
                f"{len(found)} × [{text}]" if len(found) > 1 else text
                for text, found in ((text, list(group)) for text, group in groupby(here, key=_lab_formula))
            ]
            cells.append("<br>".join(lines))
        rows.append((f"{size}×{size}", *cells))
    rows.append(("**params**", *(f"**{units.count(report.total.params)}**" for report in reports)))
    rows.append(("**MACs**", *(f"**{units.count(report.total.macs)}**" for report in reports)))
    markdown(("output size", *names), rows)


def _biased(name: str) -> ac.Network:
    entry = zoo.find(name)
    wanted = {"conv_bias": True, "batch_norm": False, "shortcut": "A"}
    return entry.build(**{key: value for key, value in wanted.items() if key in entry.choices})


def _has_weights(row: Row) -> bool:
    return isinstance(row.node.layer, Conv2d | Linear)


def _size(row: Row) -> int:
    return int(row.output[2]) if len(row.output) == 4 else 1


def _lab_formula(row: Row) -> str:
    """The layer's parameters in the lab's form. Raises AssertionError where they are not the row's."""
    layer = row.node.layer
    loops = row.nests[0].loops
    bias = leaf("b", 1 if len(row.nests) > 1 else 0)
    if isinstance(layer, Conv2d):
        taps: Worked = leaf("f_h", loops["R"]) * leaf("f_w", loops["S"]) * leaf("C_{i-1}", row.inputs[0][1])
        number = (taps + bias) * leaf("C_i", row.output[1])
    else:
        number = (leaf("C_{i-1}", row.inputs[0][1]) + bias) * leaf("C_i", row.output[1])
    assert number.value == row.params, (row.name, number.value, row.params)
    return Equation(worked(number)).text()
