"""Blocks: every block of memory that PyTorch's allocator gives out and takes back, as its profiler records them."""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._profiler import _RecordFunctionFast as Mark  # others are operations, which modes see
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from archcalc.errors import CheckError
from archcalc.pytorch.modules import layer_of

_PHASE, _LAYER, _READ = "archcalc phase: ", "archcalc layer", "archcalc read: "
_ALL = "all phases"
_ALLOCATION = "Allocation"
_NUMBER = 8
"""Bytes of the tensor that a Python number, such as the 1 of `x + 1`, becomes while an operation runs."""


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes given out and taken back, and the moments of both in ns.

    Whether one operation or layer has it for itself alone. When the last operation that reads it ends: known of phases
    run under `ReadsNoted` only, else the moment it is freed.
    """

    address: int
    nbytes: int
    made: int
    freed: float
    workspace: bool
    read: float

    def alive(self, moment: float) -> bool:
        """Whether it is there at this moment."""
        return self.made <= moment < self.freed


@dataclass
class Record:
    """Blocks in the order in which they were given out, and the phases of the program between which they lie."""

    device: torch.device
    blocks: list[Block] = field(default_factory=list)
    phases: dict[str, tuple[int, int]] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What is allocated meanwhile is allocated in this phase."""
        with Mark(_PHASE + name):
            yield

    def end(self, phase: str) -> int:
        """The moment at which a phase ends."""
        return self.phases[phase][1]

    def at(self, moment: float) -> list[Block]:
        """Blocks that are there at this moment."""
        return [block for block in self.blocks if block.alive(moment)]

    def peak(self, phase: str, blocks: Sequence[Block]) -> tuple[int, int]:
        """The most bytes of these blocks that are there at once in a phase, and the first moment at which they are."""
        start, end = self.phases[phase]
        alive = sum(block.nbytes for block in blocks if block.alive(start))
        steps = [(block.made, block.nbytes) for block in blocks if start < block.made <= end]
        steps += [(int(block.freed), -block.nbytes) for block in blocks if start < block.freed <= end]
        best = alive, start
        for moment, change in sorted(steps, key=itemgetter(0)):
            alive += change
            best = max(best, (alive, moment), key=itemgetter(0))
        return best

    def read(self, roots: Sequence[Any]) -> None:
        """Take blocks and phases from the profiler's tree of events. Raises CheckError where it recorded none."""
        events: list[tuple[int, int, int, Any]] = []
        reads: dict[int, list[int]] = defaultdict(list)
        waiting: list[tuple[Any, Any]] = [(root, None) for root in reversed(roots)]
        while waiting:
            event, span = waiting.pop()
            if event.tag.name == _ALLOCATION:
                facts = event.extra_fields
                if facts.device.type == self.device.type and facts.device.index in (None, -1, self.device.index or 0):
                    events.append((event.start_time_ns, facts.ptr, facts.alloc_size, span))
                continue
            if event.name.startswith(_READ):
                for address in event.name.removeprefix(_READ).split():
                    reads[int(address)].append((span or event).end_time_ns)
            elif event.name.startswith(_PHASE):
                self.phases[event.name.removeprefix(_PHASE)] = event.start_time_ns, event.end_time_ns
            elif span is None:
                span = event
            waiting += [(child, span) for child in reversed(event.children)]
        if not events:
            raise CheckError(f"PyTorch's profiler recorded no memory on {self.device}, so nothing can be measured")
        self.blocks = list(_paired(sorted(events, key=itemgetter(0)), reads))


def _paired(events: Sequence[tuple[int, int, int, Any]], reads: Mapping[int, Sequence[int]]) -> Iterator[Block]:
    """Blocks of the events in which they are given out and taken back; those never taken back come last."""
    held: dict[int, tuple[int, int, Any]] = {}

    def block(address: int, freed: float, ender: Any) -> Block:
        made, nbytes, maker = held[address]
        read = max((one for one in reads.get(address, ()) if made <= one < freed), default=freed)
        passing = maker is ender and (maker is not None or nbytes == _NUMBER)
        return Block(address, nbytes, made, freed, passing, read)

    for moment, address, nbytes, span in events:
        if nbytes > 0:
            held[address] = moment, nbytes, span
        elif address in held:
            yield block(address, moment, span)
            del held[address]
    yield from (block(address, math.inf, None) for address in held)


@contextmanager
def recording(device: torch.device) -> Iterator[Record]:
    """Record all blocks that are given out meanwhile on a device; they can be read once the context has ended."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it tells standard error when it starts
    record = Record(device)
    one_thread = torch.autograd.set_multithreading_enabled(False)
    recorded = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with one_thread, recorded as profiler, record.phase(_ALL):  # outside of an event no accelerator's blocks are told
        yield record
    record.read(profiler.profiler.kineto_results.experimental_event_tree())


@contextmanager
def layers_marked(module: nn.Module) -> Iterator[None]:
    """Let what a layer allocates and frees within one call be a workspace of it, whatever operations it calls."""
    running: list[Any] = []

    def start(*_: object) -> None:
        mark = Mark(_LAYER)
        mark.__enter__()
        running.append(mark)

    def stop(*_: object) -> None:
        running.pop().__exit__(None, None, None)

    parts = [part for part in module.modules() if not any(True for _ in part.children())]
    leaves = [part for part in parts if layer_of(part) is not None]  # of others a trace has the operations
    handles: list[Callable[[], None]] = []
    try:
        for leaf in leaves:
            handles.append(leaf.register_forward_pre_hook(start).remove)
            handles.append(leaf.register_forward_hook(stop, always_call=True).remove)
        yield
    finally:
        for remove in handles:
            remove()


class ReadsNoted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record which blocks each operation reads, so that it is known when a block is read for the last time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What the operation gives."""
        result = func(*args, **(kwargs or {}))
        read = [one.untyped_storage().data_ptr() for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        with Mark(_READ + " ".join(map(str, read))):
            return result
