"""Crosscheck: every number of a network against real torch modules and other people's counters, by equality.

What each leaf module puts out in a forward pass, its parameters and buffers are compared with the report's rows. Then
each counter's number, in total and for each layer, must be our MACs and what its convention's causes add to them.
"""

import gc
import importlib
import importlib.metadata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import nn

from archcalc import units
from archcalc.analysis import Report, Row, analyze
from archcalc.conventions import CONVENTIONS, Cause
from archcalc.errors import CheckError, MissingPackageError
from archcalc.extents import prod
from archcalc.graph import Network
from archcalc.layers import Input
from archcalc.pytorch import devices
from archcalc.pytorch.build import build, whole_shape
from archcalc.pytorch.comparison import CheckReport, Comparison
from archcalc.pytorch.counters import COUNTERS
from archcalc.pytorch.load import Inputs, own_dtype, to_run
from archcalc.pytorch.observe import (
    ROLES,
    Call,
    Dims,
    align,
    home,
    materialize,
    module_tensors,
    observe,
    random,
    role_of,
    row_tensors,
)
from archcalc.pytorch.trace import trace
from archcalc.targets import Argument
from archcalc.zoo import Entry

FUNCTIONAL = frozenset({"Add", "Flatten", "Concat", "Subsample", "PadChannels"})
"""Kinds that a module may compute without calling a module of its own."""

TOOLS = ("torch", "fvcore", "torchinfo")
"""Counters that every network is checked against."""

Progress: TypeAlias = Callable[[str], None]


def check(
    network: Network,
    *,
    entry: Entry | None = None,
    choices: Mapping[str, Any] | None = None,
    make: Callable[[], nn.Module] | None = None,
    arguments: Sequence[Argument] = (),
    shape: Sequence[Any] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> CheckReport:
    """Check a network against the module built from it and, for a zoo entry's choices, torchvision's own module.

    A traced network is checked against the module that `make` makes, which it was traced from, called with these
    arguments; by default with one of its shape.

    Shape (N, C, H, W), by default the network's own. Raises InputError, ShapeError, CheckError where nothing can run.
    """
    device, say = torch.device(device), progress or _silent
    whole = whole_shape(network, shape)
    given = analyze(network, whole if shape else None).given
    if make is not None:
        say(f"{network.name}: making the module")
        with devices.memory_guard(device):
            module: nn.Module = make().to(device).eval()
        inputs = to_run(arguments or (Argument(whole),), device, own_dtype(module))
        if shape is None or all(node.layer.output() == whole for node in network.input_nodes):
            args, kwargs = inputs  # a module that looks into its data takes the path that this data takes
            network = trace(module, args, name=network.name, **kwargs)
        label = "the module traced"
        comparisons = check_module(module, network, label=label, shape=shape, traced=True, inputs=inputs, progress=say)
        return CheckReport(network.name, whole, given, str(device), _facts(device), comparisons)
    say(f"{network.name}: building the module")
    module = materialize(build(network, whole, device="meta"), device)
    comparisons = check_module(module, network, label="built from the spec", shape=whole, exact=True, progress=say)
    reference = entry.reference(choices or {}) if entry else None
    if entry and reference:
        del module
        gc.collect()  # a counter may leave cycles that hold the weights
        chosen = {name: value for name, value in reference.choices.items() if value != entry.choices[name]}
        words = ", ".join(
            f"{name}={str(value).lower() if value in (True, False) else value}" for name, value in chosen.items()
        )
        label = f"torchvision.models.{reference.model} = {entry.name}{' with ' if words else ''}{words}"
        same = entry.build(**reference.choices)
        say(f"{network.name}: constructing torchvision's {reference.model}")
        try:
            module = materialize(_torchvision(reference.model, reference.arguments), device)
        except MissingPackageError as error:
            comparisons += (Comparison(label, "torchvision", analyze(same, whole).total.macs, skipped=str(error)),)
        else:
            functional = FUNCTIONAL | reference.functional
            comparisons += check_module(module, same, label=label, shape=whole, functional=functional, progress=say)
    return CheckReport(network.name, whole, given, str(device), _facts(device), comparisons)


def check_module(
    module: nn.Module,
    network: Network,
    *,
    label: str,
    shape: Sequence[Any] | None = None,
    tools: Iterable[str] = TOOLS,
    exact: bool = False,
    functional: Collection[str] = FUNCTIONAL,
    traced: bool = False,
    inputs: Inputs | None = None,
    progress: Progress | None = None,
) -> tuple[Comparison, ...]:
    """Compare a module's outputs, parameters, buffers and each tool's count of it with a network's.

    With `exact` every row must be a module's call; otherwise kinds in `functional` need not. The rows of a `traced`
    network are compared with the calls of the submodules they are named after. The module is called with `inputs`, by
    default random numbers of the shape, and left as it was. Raises CheckError.
    """
    say = progress or _silent
    report = analyze(network, shape if shape is None else whole_shape(network, shape))
    device = next((one.device for one in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    with devices.memory_guard(device):
        args, kwargs = inputs or ((random(report.input, device),), {})
        say(f"{label}: forward pass")
        calls, outputs = observe(module, *args, **kwargs)
        if traced:
            layers = {path for path, own in (home(row, module) for row in report.rows) if own}
            calls = [call for call in calls if call.path in layers]
        beside = _Beside(label, module, report, tuple(calls), frozenset() if exact else functional, traced)
        comparisons = [beside.outputs(outputs), *beside.tensors()]
        for tool in tools:
            say(f"{label}: {tool}")
            comparisons += beside.counted(tool, args, kwargs)
    return tuple(comparisons)


@dataclass(frozen=True)
class _Beside:
    """A module beside the report that describes it."""

    label: str
    module: nn.Module
    report: Report
    calls: tuple[Call, ...]
    skippable: Collection[str]
    traced: bool = False

    @cached_property
    def pairs(self) -> list[tuple[Row | None, Call | None]]:
        if self.traced:
            waiting: dict[str, list[Call]] = defaultdict(list)
            for call in reversed(self.calls):
                waiting[call.path].append(call)
            homes = [(row, *home(row, self.module)) for row in self.report.rows]
            return [(row, waiting[path].pop()) for row, path, own in homes if own and waiting[path]]
        return align([row for row in self.report.rows if not isinstance(row.node.layer, Input)], self.calls)

    @property
    def homes(self) -> Iterator[tuple[Row, str]]:
        """Rows with the path of the leaf module that computes them."""
        if self.traced:
            yield from ((row, home(row, self.module)[0]) for row in self.report.rows)
        else:
            yield from ((row, call.path) for row, call in self.matched)

    @cached_property
    def matched(self) -> list[tuple[Row, Call]]:
        return [(row, call) for row, call in self.pairs if row and call]

    def outputs(self, outputs: tuple[Dims, ...]) -> Comparison:
        """What every call and the whole module put out; rows without a call and calls without a row."""
        layers = [(_named([row], call.path), row.output, call.output) for row, call in self.matched]
        missed = [row for row, call in self.pairs if row and not call and row.kind not in self.skippable]
        problems = [f"{row.name} ({row.kind}) is in the spec, but the module does not call it" for row in missed]
        extra = [call for row, call in self.pairs if call and not row]
        problems += [f"{call.path} ({call.kind}) is called by the module, but is not in the spec" for call in extra]
        described = tuple(self.report[name].output for name in self.report.network.outputs)
        if outputs != described:
            problems.append(f"output of the network: archcalc {_texts(described)}, module {_texts(outputs)}")
        ours = sum(prod(row.output) for row in [*(row for row, _ in self.matched), *missed])
        theirs = sum(prod(call.output) for call in self.calls if call.output is not None)
        return self._compare("output elements", ours, theirs, "module", layers, problems=problems)

    def tensors(self) -> Iterator[Comparison]:
        """Weights, biases and buffers by name and shape, and elements of the state_dict, each once."""
        total, theirs = self.report.total, dict.fromkeys(ROLES, 0)
        for name, parameter in self.module.named_parameters():
            theirs[role_of(name)] += parameter.numel()
        theirs["buffer"] = sum(buffer.numel() for buffer in self.module.buffers())
        numbers = (("weights", total.weights), ("biases", total.biases), ("buffers", total.buffers))
        for role, (what, ours) in zip(ROLES, numbers, strict=True):
            layers = [
                (_named([row], call.path), row_tensors(row, role), module_tensors(call.module, role))
                for row, call in self.matched
            ]
            yield self._compare(what, ours, theirs[role], "module", layers)
        held = (*self.module.state_dict(keep_vars=True).values(), *self.module.buffers())  # some buffers are not in it
        state = sum(one.numel() for one in {id(one): one for one in held if isinstance(one, torch.Tensor)}.values())
        yield self._compare("state_dict", total.params + total.buffers, state, "module")

    def counted(self, tool: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Comparison]:
        """What a tool counts, in total and for each module; the rows of a module called twice are added up."""
        total, convention = self.report.total, CONVENTIONS[tool]
        try:
            counted = COUNTERS[tool](self.module, args, kwargs)
        except MissingPackageError as error:
            yield Comparison(self.label, convention.header, total.macs, skipped=str(error))
            return
        except CheckError as error:
            why = {"skipped": str(error)} if self.traced else {"mismatches": (str(error),)}
            yield Comparison(self.label, convention.header, total.macs, **why)
            return
        rows: dict[str, list[Row]] = defaultdict(list)
        for row, path in self.homes:
            rows[path].append(row)
        layers = [
            (_named(rows[path], path), sum(map(convention.count, rows[path])), theirs)
            for path, theirs in (counted.layers or {}).items()
        ]
        blind = (*counted.unsupported, *(f"{row.name} (by archcalc)" for row in self.report.uncounted))
        yield self._compare(
            convention.header,
            total.macs,
            counted.total,
            tool,
            layers,
            causes=self._explained(convention.causes),
            unsupported=blind,
        )
        if counted.params is not None:
            causes = self._explained(convention.param_causes)
            yield self._compare(f"params ({tool})", total.params, counted.params, tool, causes=causes)

    def _explained(self, causes: Sequence[Cause]) -> tuple[tuple[str, int], ...]:
        """What each cause adds in the whole network, where it adds anything."""
        amounts = [(cause.name, sum(map(cause.amount, self.report.rows))) for cause in causes]
        return tuple((name, amount) for name, amount in amounts if amount)

    def _compare(
        self,
        what: str,
        ours: int,
        theirs: int,
        who: str,
        layers: Sequence[tuple[str, Any, Any]] = (),
        *,
        problems: Iterable[str] = (),
        causes: tuple[tuple[str, int], ...] = (),
        unsupported: tuple[str, ...] = (),
    ) -> Comparison:
        unequal = [f"{name}: archcalc {_text(a)}, {who} {_text(b)}" for name, a, b in layers if a != b]
        equal = len(layers) - len(unequal)
        mismatches = (*unequal, *problems)
        return Comparison(self.label, what, ours, theirs, causes, len(layers), equal, mismatches, unsupported)


def _named(rows: Iterable[Row], path: str) -> str:
    names = ", ".join(row.name for row in rows)
    return path if names in ("", path) else f"{names} ({path})"


def _text(value: Any) -> str:
    """A count, a shape, or tensors by name."""
    if isinstance(value, int):
        return units.count(value)
    if value and isinstance(value[0], tuple):
        return " and ".join(f"{name} {units.shape(shape)}" for name, shape in value)
    return units.shape(value) if value else "nothing"


def _texts(shapes: Sequence[Dims]) -> str:
    return " and ".join(map(units.shape, shapes)) or "nothing"


def _torchvision(model: str, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        models = importlib.import_module("torchvision.models")
    except ImportError:
        raise MissingPackageError('torchvision is not installed: pip install "archcalc[torch]"') from None
    with torch.device("meta"):
        module: nn.Module = getattr(models, model)(weights=None, **arguments)
    return module


def _facts(device: torch.device) -> dict[str, object]:
    return devices.environment(device, dtype=torch.float32, threads=torch.get_num_threads()) | _versions()


def _versions() -> dict[str, object]:
    versions: dict[str, object] = {}
    for package in ("torchvision", "fvcore", "torchinfo"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _silent(_: str) -> None:
    """No progress is shown."""
