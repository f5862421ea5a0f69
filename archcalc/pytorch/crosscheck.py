"""Crosscheck: every number of a network against real torch modules and other people's counters, by equality.

A forward pass with hooks says what each leaf module puts out; its calls are aligned with the report's rows. Then each
counter's number, in total and for each layer, must be our MACs and what the convention's causes add to them.
"""

import gc
import importlib
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from archcalc import units
from archcalc.analysis import Report, Row, analyze
from archcalc.conventions import CONVENTIONS
from archcalc.errors import ArchcalcError, CheckError, MissingPackageError
from archcalc.extents import prod
from archcalc.graph import Network
from archcalc.layers import Input
from archcalc.pytorch import devices
from archcalc.pytorch.build import build, whole_shape
from archcalc.pytorch.counters import COUNTERS, untouched
from archcalc.table import Column, Table
from archcalc.zoo import Entry

FUNCTIONAL = frozenset({"Add", "Flatten", "Concat", "Subsample", "PadChannels"})
"""Kinds that a module may compute without calling a module of its own."""

LABELS = {"torch": "MACs, FlopCounterMode", "fvcore": "flops, fvcore", "torchinfo": "mult-adds, torchinfo"}

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """One number of ours and theirs: their difference by cause, and how many layers are equal."""

    subject: str
    what: str
    ours: int
    theirs: int | None = None  # None where there is no number: skipped, or in mismatches
    causes: tuple[tuple[str, int], ...] = ()
    layers_compared: int = 0
    layers_equal: int = 0
    mismatches: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()  # operations that the tool counts as zero for want of a rule
    skipped: str = ""  # why, and what to install

    @property
    def remainder(self) -> int | None:
        """Theirs − ours that no cause explains."""
        return None if self.theirs is None else self.theirs - self.ours - sum(amount for _, amount in self.causes)

    @property
    def ok(self) -> bool:
        """Whether every layer is equal and nothing remains unexplained, or the comparison was skipped."""
        return bool(self.skipped) or (self.remainder == 0 and not self.mismatches)


@dataclass(frozen=True)
class CheckReport:
    """All comparisons of one network on one device."""

    network_name: str
    input: tuple[int, ...]
    device: str
    environment: Mapping[str, object]
    comparisons: tuple[Comparison, ...]

    @property
    def ok(self) -> bool:
        """Whether no comparison failed."""
        return all(one.ok for one in self.comparisons)

    def table(self) -> Table:
        """One line for each comparison; mismatches and what was skipped or unsupported are notes."""
        columns = (Column("subject", "left"), Column("what", "left"), Column("archcalc"), Column("theirs"))
        columns += (Column("difference explained", "left"), Column("remainder"), Column("layers equal"))
        rows = []
        subject = ""
        for one in self.comparisons:
            causes = "; ".join(f"{name}: {units.count(amount)}" for name, amount in one.causes)
            equal = f"{one.layers_equal}/{one.layers_compared}" if one.layers_compared else None
            theirs = "skipped" if one.skipped else "failed" if one.theirs is None else one.theirs
            named = one.subject if one.subject != subject else None
            rows.append((named, one.what, one.ours, theirs, causes or None, one.remainder, equal))
            subject = one.subject
        title = f"{self.network_name} on {units.shape(self.input)}, {self.device}"
        return Table(title, columns, tuple(rows), notes=tuple(dict.fromkeys(self._notes())))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, schema archcalc.check/1."""
        return {
            "schema": "archcalc.check/1",
            "network": self.network_name,
            "input": list(self.input),
            "device": self.device,
            "environment": dict(self.environment),
            "ok": self.ok,
            "comparisons": [
                vars(one)
                | {"causes": dict(one.causes), "mismatches": list(one.mismatches)}
                | {"unsupported": list(one.unsupported), "remainder": one.remainder, "ok": one.ok}
                for one in self.comparisons
            ],
        }

    def _notes(self) -> Iterator[str]:
        for one in self.comparisons:
            if one.skipped:
                yield f"{one.what} skipped: {one.skipped}"
            if one.unsupported:
                yield f"{one.what}: no rule for, and so 0 for, {', '.join(one.unsupported)}"
            for message in one.mismatches[:10]:
                yield f"{one.subject}, {one.what}: {message}"
            if len(one.mismatches) > 10:
                yield f"{one.subject}, {one.what}: and {len(one.mismatches) - 10} more mismatches"


def check(
    network: Network,
    *,
    entry: Entry | None = None,
    choices: Mapping[str, Any] | None = None,
    shape: Sequence[Any] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> CheckReport:
    """Check a network against the module built from it and, for a zoo entry's choices, torchvision's own module.

    Shape (N, C, H, W), by default the network's own. Raises InputError, ShapeError, CheckError where nothing can run.
    """
    device = torch.device(device)
    whole = whole_shape(network, shape)
    say = progress or (lambda _: None)
    say(f"{network.name}: building the module")
    with torch.random.fork_rng(devices=[]):
        module: nn.Module = materialize(build(network, whole, device="meta"), device)
    comparisons = check_module(module, network, label="built from the spec", shape=whole, exact=True, progress=say)
    del module
    reference = entry.reference(choices or {}) if entry else None
    if entry and reference:
        gc.collect()  # counters leave cycles that hold the weights
        chosen = {name: value for name, value in reference.choices.items() if value != entry.choices[name]}
        options = ", ".join(f"{name}={str(value).lower()}" for name, value in chosen.items())
        label = f"torchvision.models.{reference.model} = {entry.name}{' with ' if options else ''}{options}"
        same = entry.build(**reference.choices)
        say(f"{network.name}: constructing torchvision's {reference.model}")
        try:
            module = materialize(_torchvision(reference.model, reference.arguments), device)
        except MissingPackageError as error:
            comparisons += (Comparison(label, "torchvision", analyze(same, whole).total.macs, skipped=str(error)),)
        else:
            comparisons += check_module(module, same, label=label, shape=whole, progress=say)
    facts = devices.environment(device, dtype=torch.float32, threads=torch.get_num_threads())
    return CheckReport(network.name, whole, str(device), facts | _versions(), comparisons)


def check_module(
    module: nn.Module,
    network: Network,
    *,
    label: str,
    shape: Sequence[Any] | None = None,
    tools: Iterable[str] = tuple(COUNTERS),
    exact: bool = False,
    progress: Progress | None = None,
) -> tuple[Comparison, ...]:
    """Compare a module with a network: outputs, parameters, buffers, what each tool counts. The module is left as it was.

    With `exact` every row must be a module's call; otherwise kinds in FUNCTIONAL need not. Raises CheckError.
    """
    say = progress or (lambda _: None)
    report = analyze(network, whole_shape(network, shape))
    device = next((one.device for one in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    x = torch.empty(report.input, device=device).uniform_(-1, 1, generator=_generator(device))
    with devices.memory_guard(device):
        say(f"{label}: forward pass")
        calls, output = _observe(module, x)
        aligned = _Aligned(label, module, report, calls, frozenset() if exact else FUNCTIONAL)
        comparisons = [aligned.outputs(output), *aligned.tensors()]
        for tool in tools:
            say(f"{label}: {tool}")
            comparisons += aligned.counted(tool, x)
    return tuple(comparisons)


def materialize(module: nn.Module, device: torch.device) -> nn.Module:
    """Give a module on the meta device memory on this one, and small uniform numbers; global generators are untouched."""
    with devices.memory_guard(device), torch.no_grad():
        module.to_empty(device=device)
        noise = torch.empty(1 << 20, device=device).uniform_(-1, 1, generator=_generator(device))
        for parameter in module.parameters():
            bound = 1.0 if parameter.ndim < 2 else (parameter.numel() / len(parameter)) ** -0.5
            for part in parameter.view(-1).split(len(noise)):  # repeated: drawing 10^8 numbers takes seconds
                torch.mul(noise[: len(part)], bound, out=part)
        for buffer in module.buffers():
            buffer.zero_()
        for one in module.modules():
            if isinstance(one, nn.modules.batchnorm._NormBase):
                one.reset_running_stats()
    return module


@dataclass(frozen=True)
class _Call:
    path: str
    module: nn.Module
    output: tuple[int, ...] | None

    @property
    def kind(self) -> str:
        return type(self.module).__name__


Pair = tuple[str, Hashable, Hashable]
"""A layer, ours, theirs."""


@dataclass(frozen=True)
class _Aligned:
    """A module's calls beside the rows that describe them."""

    label: str
    module: nn.Module
    report: Report
    calls: Sequence[_Call]
    skippable: Collection[str]

    @cached_property
    def pairs(self) -> list[tuple[Row | None, _Call | None]]:
        rows = [row for row in self.report.rows if not isinstance(row.node.layer, Input)]
        return list(align(rows, self.calls, _alike))

    @property
    def matched(self) -> list[tuple[Row, _Call]]:
        return [(row, call) for row, call in self.pairs if row and call]

    def outputs(self, output: tuple[int, ...] | None) -> Comparison:
        """Shapes of what every call puts out, and of what the whole module does."""
        pairs: list[Pair] = [(_named([row], call.path), row.output, call.output) for row, call in self.matched]
        missed = [row for row, call in self.pairs if row and not call and row.kind not in self.skippable]
        extra = [call for row, call in self.pairs if call and not row]
        problems = [f"{row.name} ({row.kind}) is in the spec, but the module does not call it" for row in missed]
        problems += [f"{call.path} ({call.kind}) is called by the module, but is not in the spec" for call in extra]
        last = self.report.rows[-1]
        if output != last.output:
            problems.append(f"the module's output: archcalc {_text(last.output)}, module {_text(output)}")
        ours = sum(prod(row.output) for row in (*(row for row, _ in self.matched), *missed))
        theirs = sum(prod(call.output) for call in self.calls if call.output)
        return self._comparison("output elements", ours, theirs, pairs, problems=problems)

    def tensors(self) -> Iterator[Comparison]:
        """Weights, biases and buffers by name and shape, and the elements of the state_dict."""
        total = self.report.total
        state = {name: tensor.numel() for name, tensor in self.module.state_dict().items()}
        named = {name: parameter.numel() for name, parameter in self.module.named_parameters()}
        biases = sum(size for name, size in named.items() if _role(name) == "bias")
        buffers = sum(buffer.numel() for buffer in self.module.buffers())
        totals = {"weight": sum(named.values()) - biases, "bias": biases, "buffer": buffers}
        for (role, theirs), ours in zip(totals.items(), (total.weights, total.biases, total.buffers), strict=True):
            pairs: list[Pair] = [
                (_named([row], call.path), _ours(row, role), _theirs(call.module, role)) for row, call in self.matched
            ]
            yield self._comparison(f"{role}es" if role == "bias" else f"{role}s", ours, theirs, pairs)
        yield self._comparison("state_dict elements", total.params + total.buffers, sum(state.values()), [])

    def counted(self, tool: str, x: Tensor) -> Iterator[Comparison]:
        """What a tool counts, in total and for each module, a module's calls added up."""
        what, total, convention = LABELS[tool], self.report.total, CONVENTIONS[tool]
        try:
            counted = COUNTERS[tool](self.module, (x,))
        except MissingPackageError as error:
            yield Comparison(self.label, what, total.macs, skipped=str(error))
            return
        except CheckError as error:
            yield Comparison(self.label, what, total.macs, mismatches=(str(error),))
            return
        rows: dict[str, list[Row]] = defaultdict(list)
        for row, call in self.matched:
            rows[call.path].append(row)
        pairs: list[Pair] = []
        for path, theirs in (counted.layers or {}).items():
            ours = sum(convention.count(row) for row in rows[path])
            pairs.append((_named(rows[path], path), ours, theirs))
        causes = [(one.name, sum(map(one.amount, self.report.rows))) for one in convention.causes]
        causes = [(name, amount) for name, amount in causes if amount]
        yield self._comparison(what, total.macs, counted.total, pairs, causes, unsupported=counted.unsupported)
        if counted.params is not None:
            yield self._comparison(f"params, {tool}", total.params, counted.params, [])

    def _comparison(
        self,
        what: str,
        ours: int,
        theirs: int,
        layers: Sequence[Pair],
        causes: Sequence[tuple[str, int]] = (),
        *,
        problems: Sequence[str] = (),
        unsupported: tuple[str, ...] = (),
    ) -> Comparison:
        unequal = [(name, a, b) for name, a, b in layers if a != b]
        messages = [f"{name}: archcalc {_text(a)}, {what} {_text(b)}" for name, a, b in unequal]
        compared, equal = len(layers), len(layers) - len(unequal)
        found = (*messages, *problems)
        return Comparison(self.label, what, ours, theirs, tuple(causes), compared, equal, found, unsupported)
