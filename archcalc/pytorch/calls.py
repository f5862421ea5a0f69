"""Calls: which calls of a real pass do the work of which rows of a report.

A call is of a module that is timed as one, or of a function of torch in the code of another module: the outermost, as
tracing saw them. Rows know the call they were traced from, and a pass is listened to once, so that the two sequences
can be laid side by side. Where they differ, what lies between calls that agree is one entry, with all of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode, _push_mode
from torch.utils._python_dispatch import TorchDispatchMode

from archcalc.analysis import Row
from archcalc.layers import Input
from archcalc.layers.operation import Constant, Parameter, Unused
from archcalc.pytorch.observe import home
from archcalc.pytorch.origins import function_name
from archcalc.pytorch.recorder import SILENT
from archcalc.pytorch.shadow import held_tensors
from archcalc.pytorch.subject import Subject
from archcalc.pytorch.timing import replaced


class Call(NamedTuple):
    """A call of the module at a path, or of a function in that module's code."""

    path: str
    function: str = ""

    @property
    def name(self) -> str:
        """Path and function."""
        return f"{self.path}.{self.function}".strip(".") or "module"


@dataclass(frozen=True)
class Event:
    """A call as it was heard: its function, and whether it ran any operation that a row could describe."""

    call: Call
    function: Any = None
    works: bool = True


@dataclass(frozen=True)
class Entry:
    """What is timed as one: the events, by their place in the pass, that do the work of some rows.

    Without rows no row describes the calls; without events no call was heard that does the rows' work.
    """

    rows: tuple[Row, ...]
    events: tuple[int, ...]
    calls: tuple[Call, ...]
    alike: bool = True  # the calls are those that the rows were traced from

    @property
    def name(self) -> str:
        """Of its first row, or of the call."""
        return self.rows[0].name if self.rows else self.calls[0].name


@dataclass(frozen=True)
class Calls:
    """Every event of a pass, the entries that its working ones belong to, and the modules that are timed as one."""

    events: tuple[Event, ...]
    entries: tuple[Entry, ...]
    units: dict[nn.Module, str]


def calls_of(one: Subject) -> Calls:
    """Run the module to hear its calls, and lay the report's rows beside them."""
    paths = {part: path for path, part in one.module.named_modules()}
    whole = set() if one.built else _whole(one, paths)
    own = {_home(row, one)[0] for row in one.report if _runs(row) and _home(row, one)[1]}
    units = {part: path for part, path in paths.items() if path in own or path in whole}
    steps = list(_steps(one, set(units.values())))
    events = _listen(one, paths, units)
    heard = _heard(events, whole | {step.call.path for step in steps if len(step.rows) > 1 and not step.call.function})
    return Calls(tuple(events), tuple(_entries(steps, heard)), units)


def _runs(row: Row) -> bool:
    """Whether a row is something that is done."""
    return not isinstance(row.node.layer, Input | Parameter | Constant | Unused)


def _home(row: Row, one: Subject) -> tuple[str, bool]:
    return (row.name, True) if one.built else home(row, one.module)


# Rows


_OWN = -1


@dataclass
class _Step:
    """Rows that were traced from one call: `_OWN` of a layer, or a function's by its number among those calls."""

    call: Call
    rows: list[Row]
    number: int = 0


def _steps(one: Subject, units: set[str]) -> Iterator[_Step]:
    """The calls that the rows were traced from, in order."""
    steps: dict[str, _Step] = {}  # by the rows' names
    last = _Step(Call(""), [])
    for row in filter(_runs, one.report):
        step = _step(row, one, units, last, steps)
        step.rows.append(row)
        steps[row.name] = step
        if step is not last and len(step.rows) == 1:
            last = step
    yield from {id(step): step for step in steps.values()}.values()


def _step(row: Row, one: Subject, units: set[str], last: _Step, steps: dict[str, _Step]) -> _Step:
    """The step of a row: one before, or a new one."""
    path, own = _home(row, one)
    origin = row.node.origin
    if origin is None or (own and path not in units):  # a further output of what a row before it puts out
        before = steps.get(row.sources[0].name) if row.sources else None
        return _Step(Call(path), [], _OWN) if one.built or before is None else before
    if own:
        around = _unit(path.rpartition(".")[0], units) if path else None
        if around is None:
            return _Step(Call(path), [], _OWN)
        path = around
    unit = _unit(path, units)
    if unit is not None:
        return last if last.call == Call(unit) and last.number != _OWN else _Step(Call(unit), [])
    if origin.call and origin.call == last.number:
        return last
    return _Step(Call(path, origin.functions[0]), [], origin.call)


def _unit(path: str, units: set[str]) -> str | None:
    """The outermost of these modules at or around a path."""
    parts = path.split(".") if path else []
    around = ("", *(".".join(parts[: i + 1]) for i in range(len(parts))))
    return next((one for one in around if one in units), None)


# Events


_FAST = {"_transformer_encoder_layer_fwd", "_native_multi_head_attention", "_nested_tensor_from_mask"}
"""Operations by which modules of torch.nn run many layers at once."""


def _whole(one: Subject, paths: dict[nn.Module, str]) -> set[str]:
    """Paths of modules that no mode can look into without changing the path they take: they are timed as one."""
    kinds = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
    asked = {part: path for part, path in paths.items() if isinstance(part, kinds)}
    found = {path for part, path in asked.items() if isinstance(part, nn.MultiheadAttention)}
    if not asked:
        return found
    stack: list[str] = []

    class Fast(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if stack and func.name().partition("::")[2].partition(".")[0] in _FAST:
                found.add(stack[-1])
            return func(*args, **(kwargs or {}))

    def entered(path: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        stack.append(path)
        try:
            return forward(*args, **kwargs)
        finally:
            stack.pop()

    with replaced({part: partial(entered, path, part.forward) for part, path in asked.items()}), Fast():  # type: ignore[no-untyped-call]
        _pass(one)
    return found


def _pass(one: Subject) -> None:
    one.module(*one.args, **one.kwargs)


class _Listener(TorchFunctionMode):
    """Writes down the outermost calls of a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.events: list[Event] = []
        self.inside = False
        self.works = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.inside:
            return func(*args, **(kwargs or {}))
        call = Call(self.stack[-1] if self.stack else "", function_name(func))
        return self.heard(call, func, func, args, kwargs or {})

    def heard(self, call: Call, key: Any, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a call that is an event of its own."""
        self.inside, self.works = True, False
        place = len(self.events)
        self.events.append(Event(call, key))
        try:
            return run(*args, **kwargs)
        finally:
            self.inside = False
            self.events[place] = Event(call, key, self.works)

    def module(self, path: str, unit: bool, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a module, which is an event itself or has some."""
        if self.inside:
            return forward(*args, **kwargs)
        if unit:
            with without(self):
                return self.heard(Call(path), None, forward, args, kwargs)
        self.stack.append(path)
        try:
            return forward(*args, **kwargs)
        finally:
            self.stack.pop()


class _Operations(TorchDispatchMode):
    """Tells the listener that an operation runs."""

    def __init__(self, listener: _Listener) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.listener = listener

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.name().partition("::")[2].partition(".")[0]
        if name not in SILENT and any(True for _ in held_tensors(result)):
            self.listener.works = True
        return result


@contextmanager
def without(mode: TorchFunctionMode) -> Iterator[None]:
    """No mode meanwhile: modules of torch.nn look whether there is one before they choose their path."""
    mine = _get_current_function_mode() is mode  # type: ignore[no-untyped-call]
    if mine:
        _pop_mode()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if mine:
            _push_mode(mode)  # type: ignore[no-untyped-call]


def _listen(one: Subject, paths: dict[nn.Module, str], units: dict[nn.Module, str]) -> list[Event]:
    """Every call of a pass, units as one. Composite functions run step by step, as tracing sees them."""
    listener = _Listener()
    forwards = {part: partial(listener.module, path, part in units, part.forward) for part, path in paths.items()}
    with torch.inference_mode(mode=False), torch.no_grad(), replaced(forwards), _Operations(listener), listener:
        _pass(one)
    return listener.events


def _heard(events: Sequence[Event], joined: set[str]) -> list[tuple[Call, list[int]]]:
    """The working events by their places; calls in a row of one of the joined modules are one."""
    heard: list[tuple[Call, list[int]]] = []
    for place, event in enumerate(events):
        if event.function is not None and not event.works:
            continue
        if heard and heard[-1][0] == event.call and event.function is None and event.call.path in joined:
            heard[-1][1].append(place)
        else:
            heard.append((event.call, [place]))
    return heard


# Rows beside events


class _Pairing(NamedTuple):
    steps: list[_Step]
    heard: list[tuple[Call, list[int]]]
    alike: bool

    @property
    def calls(self) -> set[Call]:
        return {*(step.call for step in self.steps), *(call for call, _ in self.heard)}


def _entries(steps: list[_Step], heard: list[tuple[Call, list[int]]]) -> Iterator[Entry]:
    for pair in _paired(steps, heard):
        rows = tuple(row for step in pair.steps for row in step.rows)
        places = tuple(place for _, those in pair.heard for place in those)
        yield Entry(rows, places, tuple(call for call, _ in pair.heard), pair.alike)


def _paired(steps: list[_Step], heard: list[tuple[Call, list[int]]]) -> list[_Pairing]:
    """Steps beside what was heard, one by one where they agree.

    What differs is taken as a whole, together with equal calls beside it, of which none can be told from the others.
    """
    ours, theirs = [step.call for step in steps], [call for call, _ in heard]
    pairs: list[_Pairing] = []
    for tag, i, j, k, m in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag == "equal":
            pairs += [_Pairing([a], [b], True) for a, b in zip(steps[i:j], heard[k:m], strict=True)]
        else:
            pairs.append(_Pairing(steps[i:j], heard[k:m], False))
    return list(_absorbed(_absorbed(pairs)[::-1], backwards=True))[::-1]


def _absorbed(pairs: Iterable[_Pairing], *, backwards: bool = False) -> list[_Pairing]:
    """The pairs, where one that differs takes in those after it that have the same calls."""
    result: list[_Pairing] = []
    for pair in pairs:
        last = result[-1] if result else None
        if last is not None and not last.alike and (not pair.alike or pair.calls & last.calls):
            first, second = (pair, last) if backwards else (last, pair)
            result[-1] = _Pairing(first.steps + second.steps, first.heard + second.heard, False)
        else:
            result.append(pair)
    return result
