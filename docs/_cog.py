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
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, replace
from importlib import import_module
from inspect import getdoc
from itertools import groupby
from pathlib import Path
from typing import Any

from _cog_clock import theory_against_clock
from _cog_counters import causes, counter_facts, counters_on_networks, counters_summary
from _cog_memory import measured_checks, saved_checks, zoo_checks
from _cog_plot import drawing, quantities
from _cog_published import errata, every_figure, filters_against_columns, published, verdicts
from _cog_receptive import gradient_checks, stacks
from _cog_roofline import calibration_grid, forecasts, rooflines
from _cog_solutions import figures
from _cog_spec import spec_error, spec_run, spec_source
from _cog_time import layer_times, step_times, timed_lines, two_runs
from _cog_whatifs import measured_what_ifs, rewrites, separable_ratios, what_ifs
from _cog_zoo import zoo_families, zoo_references

import archcalc as ac
from archcalc import columns, layers, units, zoo
from archcalc.analysis import Report, Row
from archcalc.cli import app
from archcalc.cli import main as command_line
from archcalc.errors import ShapeError
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
RESULTS = ROOT / "benchmarks" / "results"
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


def _markdown(headers: Iterable[str], rows: Iterable[Iterable[object]], right: Iterable[str] = ()) -> None:
    """A table whose text cells may hold Markdown."""
    heads = list(headers)
    lines = [
        heads,
        ["--:" if head in set(right) else ":--" for head in heads],
        *([units.count(cell) if isinstance(cell, int) else str(cell) for cell in row] for row in rows),
    ]
    print("\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines))


def networks() -> None:
    """Every network of the zoo with its choices."""
    rows = []
    for entry in zoo.ENTRIES.values():
        total = ac.analyze(entry.build()).total
        choices = ", ".join(f"`{name}={str(value).lower() if isinstance(value, bool) else value}`"
                            for name, value in entry.choices.items())  # fmt: skip
        rows.append((f"`{entry.name}`", entry.summary, total.params, total.macs, choices))
    _markdown(("network", "what it is", "params", "MACs", "choices (`--set`)"), rows, right=("params", "MACs"))


def column_names() -> None:
    """Every column with its meaning."""
    _markdown(("column", "meaning"), ((f"`{name}`", meaning) for name, meaning in columns.names().items()))


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
    _markdown(("option", "commands", "meaning"), rows)


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
        _markdown(("kind", "what it does", "fields", "loops: operations of one iteration"), rows)
        print()


def _summary(kind: type) -> str:
    return " ".join((getdoc(kind) or "").partition("\n\n")[0].split())


def operations() -> None:
    """Every operation that a ledger may hold."""
    _markdown(("operation", "name in tables"), ((f"`{op}`", name) for op, name in columns.OPERATIONS.items()))


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
    _markdown(("output size", *names), rows)


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


# torchvision


_OPTIONS = {
    "googlenet": {"aux_logits": False, "init_weights": False},  # its published parameters leave the auxiliary heads out
    "inception_v3": {"init_weights": False},
}
_SIDES = {"inception_v3": 299}
_VIEWED = (520, 960)  # what RAFT's weights were evaluated on


def _made(name: str, **options: Any) -> Any:
    """A model of torchvision without data."""
    from torchvision.models import get_model

    from archcalc.pytorch.load import without_data

    return without_data(lambda: get_model(name, weights=None, **_OPTIONS.get(name, {}), **options)).eval()


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
        module, side = _made(name), _SIDES.get(name, 224)
        net = ac.trace(module, (1, 3, side, side), name=name)
        usual = ac.analyze(net)
        published = _published(name)
        for size in sorted({side, *published}):
            report, of = usual, module
            if size != side:
                try:
                    report = ac.analyze(net, (1, 3, size, size))
                except ShapeError:  # a size is baked in
                    of = _made(name, **({"image_size": size} if name.startswith("vit_") else {}))
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
    _markdown(headers, rows, right=(*headers[2:5], "rows"))


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
            module = _made(name, **options)
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
    _markdown(headers, rows, right=(*headers[3:6], "rows"))


# Measurements


def _results(kind: str) -> list[Any]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(f"{kind}-*.json"))]


def speed() -> None:
    """Every results file of benchmarks/speed.py."""
    for found in _results("speed"):
        machine = found["machine"]
        print(f"**{machine['cpu']}, {machine['cores']} cores**, Python {machine['python']}, {machine['system']}; "
              f"{found['date']}; torch {found['versions']['torch']}, fvcore {found['versions']['fvcore']}, "
              f"torchinfo {found['versions']['torchinfo']}; "
              f"load average {found['load_average'][0]:.1f} when it began.\n")  # fmt: skip
        rows: list[tuple[object, ...]] = []
        for report in found["reports"]:
            for tool, median in report["median_seconds"].items():
                ratio = median / report["median_seconds"]["archcalc"]
                rows.append((f"`{report['network']}`", tool, units.seconds(median), units.ratio(ratio)))
        headers = ("network", "full report by", "median", "against archcalc")
        _markdown(headers, rows, right=headers[2:])
        process, memory = found["process"], found["memory"]
        print(
            f"\nWhole process: `{process['command']}` {units.seconds(process['median_seconds'])}, "
            f"`{process['against']}` {units.seconds(process['against_median_seconds'])}; "
            f"median of {process['rounds']} paired ratios {units.ratio(process['median_ratio'])}."
        )
        print("\nMost memory that Python held at once while a report was made and read:\n")
        _markdown(
            ("network", "peak", "weights in float32"),
            ((f"`{one['network']}`", units.mb(one["peak_bytes"]), units.mb(one["weight_bytes"])) for one in memory),
            right=("peak", "weights in float32"),
        )
        print()


def traces() -> None:
    """Every results file of benchmarks/trace.py."""
    if not _results("trace"):
        print("None yet.")
    for found in _results("trace"):
        machine, versions, models = found["machine"], found["versions"], found["models"]
        print(f"**{machine['cpu']}, {machine['cores']} cores**, Python {machine['python']}, {machine['system']}; "
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
        _markdown(headers, rows, right=headers[1:])
        print("\nThe most memory that a process held, importing included:\n")
        _markdown(
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
    if not _results("time"):
        print("None yet.")
    for found in _results("time"):
        headers = ("network", "input", "dtype", "MACs", "median", "IQR", "images/s", "GMAC/s")
        for (device, facts), group in groupby(found, key=_machine):
            print(f"**{device}**: {facts}.\n")
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
            _markdown(headers, rows, right=headers[3:])
            print()


def _machine(result: Mapping[str, Any]) -> tuple[str, str]:
    facts = result["environment"]
    versions = f"torch {facts['torch']}" + (f", CUDA {facts['cuda']}" if facts.get("cuda") else "")
    return facts["device_name"], f"{facts['device']}, {facts['threads']} CPU threads, {versions}"
