"""Allocated: what PyTorch's allocator really holds in an inference pass and a training step, beside the account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from archcalc import units
from archcalc.attended import attended
from archcalc.backward import graded
from archcalc.errors import ArchcalcError, CheckError, InputError
from archcalc.extents import prod
from archcalc.footprint import Memory
from archcalc.layers import Dropout
from archcalc.pytorch.blocks import Block, ReadsNoted, Record, layers_marked, recording
from archcalc.pytorch.build import build
from archcalc.pytorch.devices import environment, generators_kept, lacking, memory_guard, require_dtype, synchronize
from archcalc.pytorch.load import in_type, to_run
from archcalc.pytorch.observe import materialize, tensors
from archcalc.pytorch.room import available
from archcalc.pytorch.shadow import shadow_of
from archcalc.pytorch.step import OPTIMIZERS
from archcalc.pytorch.timing import threads
from archcalc.table import Cell, Column, Table
from archcalc.targets import Target

BUILD, READS, INFERENCE = "build", "inference with reads noted", "inference"
WARM_UP, FORWARD, BACKWARD, STEP = "warm-up", "forward", "backward", "step"
LIBRARIES = "held by libraries"

ONE_BYTE_MASKS = ("cuda", "xpu")
"""Devices on which PyTorch runs a dropout as one kernel, whose mask has a byte for each number."""

BLOCK = 512
"""Bytes of which CUDA's allocator gives out multiples."""


@dataclass(frozen=True)
class Phase:
    """One moment of a pass: bytes computed and measured, and the parts of the difference that have a name."""

    name: str
    computed: int
    measured: int
    parts: Mapping[str, int]

    @property
    def difference(self) -> int:
        """Bytes measured beyond those computed."""
        return self.measured - self.computed

    @property
    def remainder(self) -> int:
        """What of the difference has no name; 0 where the account is exact."""
        return self.difference - sum(self.parts.values())


@dataclass(frozen=True)
class Allocated:
    """The phases of an inference pass and of a training step on one device, with the environment they depend on."""

    memory: Memory
    environment: Mapping[str, Any]
    phases: tuple[Phase, ...]

    def __getitem__(self, name: str) -> Phase:
        return next(phase for phase in self.phases if phase.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Every phase in bytes, with the environment."""
        return {
            "environment": dict(self.environment),
            "phases": [
                {
                    "name": one.name,
                    "computed": one.computed,
                    "measured": one.measured,
                    "difference": one.difference,
                    "parts": dict(one.parts),
                    "remainder": one.remainder,
                }
                for one in self.phases
            ],
        }


def measured_table(results: Sequence[Allocated]) -> Table:
    """A line for each device and phase: bytes computed and measured, and what the difference is."""
    rows: list[tuple[Cell, ...]] = [
        (str(one.environment["device"]), phase.name, phase.computed, phase.measured, *_difference(phase))
        for one in results
        for phase in one.phases
    ]
    columns = (
        *(Column("device", "left"), Column("phase", "left"), Column("computed"), Column("measured")),
        *(Column("difference"), Column("of which", "left"), Column("remainder")),
    )
    report = results[0].memory.report
    title = f"{report.title}, {results[0].memory.dtype}: measured memory, bytes"
    return Table(title, columns, tuple(rows), notes=tuple(_notes(results)))


def _difference(phase: Phase) -> tuple[Cell, ...]:
    named = "; ".join(f"{name} {_Signed(nbytes).text()}" for name, nbytes in phase.parts.items())
    return _Signed(phase.difference), named, _Signed(phase.remainder)


@dataclass(frozen=True, slots=True)
class _Signed:
    """A cell of bytes more or less: with its sign to people, a whole number in CSV."""

    count: int

    def __index__(self) -> int:
        return self.count

    def text(self) -> str:
        """With a sign, unless it is 0."""
        return f"{'+' if self.count > 0 else '−' if self.count else ''}{units.count(abs(self.count))}"

    def latex(self) -> str:
        """The same for between dollar signs."""
        return units.latex(self.count)


def _notes(results: Sequence[Allocated]) -> Iterator[str]:
    memory = results[0].memory
    if any(True for _ in attended(memory.report, graded(memory.report))):
        yield "At inference PyTorch runs attention as one kernel, which writes fewer tensors than the steps of a trace."
    if memory.optimizer != "none":
        yield f"The step is a second one with {memory.optimizer}, whose state is there; its loss is the sum of outputs."
    if any(one.environment["device"] == "cpu" for one in results):
        yield "On the CPU one thread; what BLAS and oneDNN allocate for themselves does not pass PyTorch's allocator."
    if memory.unstated and memory.optimizer != "none":
        yield "The account of training is a lower bound: some layers do not state what backward keeps."


def measure(target: Target, memory: Memory, *, device: torch.device) -> Allocated:
    """Run a copy of the target's module on a device, forward and in a training step, and read the allocator.

    On the CPU with one thread, as the profiler sees no other. The module and the random number generators are left
    as they were. Raises InputError for a dtype that the device lacks, memory that is too small, or nothing to train;
    CheckError where the module fails.
    """
    name = memory.report.network.name
    dtype = torch.float32 if memory.dtype == "mixed" else getattr(torch, memory.dtype)
    require_dtype(device, dtype)
    _require_room(memory, device)
    one_thread: AbstractContextManager[None] = threads(1) if device.type == "cpu" else nullcontext()
    run = _Run(target, memory, device, dtype)
    with one_thread, generators_kept(device):
        try:
            with memory_guard(device):
                with recording(device) as record:
                    run(_Session(record))
                phases = tuple(_phases(run.session, memory))
        except ArchcalcError:
            raise
        except NotImplementedError as error:
            raise lacking(name, dtype, device, error) from None
        except Exception as error:
            reason = " ".join(str(error).split())
            raise CheckError(f"{name} failed in {run.doing} with {type(error).__name__}: {reason}") from error
        facts = environment(device, dtype=dtype, threads=torch.get_num_threads())
    return Allocated(memory, facts, phases)


def _require_room(memory: Memory, device: torch.device) -> None:
    """Raise InputError where the device has less memory than is computed; Linux ends programs that try."""
    room = available(device)
    if room is not None and memory.total > room:
        raise InputError(
            f"{memory.report.title} needs {units.mib(memory.total)}, and "
            f"{device} has {units.mib(room)}: a smaller batch or input may fit"
        )


@dataclass
class _Held:
    """Storages that have a name from a phase's end on: their addresses, and the bytes they asked for."""

    phase: str
    storages: dict[int, int]


class _Statistics:
    """The allocator's own statistics of an accelerator; of the CPU there are none."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start = self._read("current")

    def reset(self) -> None:
        """Begin a new peak."""
        torch.accelerator.reset_peak_memory_stats(self.device)

    def now(self) -> tuple[int, int]:
        """Bytes allocated, and how many of them are rounding, since the start."""
        return self._since("current")

    def peak(self) -> tuple[int, int]:
        """The same at the peak since it was reset."""
        return self._since("peak")

    def _since(self, when: str) -> tuple[int, int]:
        allocated, rounding = (now - then for now, then in zip(self._read(when), self.start, strict=True))
        return allocated, rounding

    def _read(self, when: str) -> tuple[int, int]:
        """Bytes allocated, and those beyond what was asked for; 0 of these where the device does not tell."""
        known: Mapping[str, int] = torch.accelerator.memory_stats(self.device)
        asked = f"requested_bytes.all.{when}"
        if asked not in known:
            own = getattr(torch.get_device_module(self.device), "memory_stats", None)
            known = {**known, **({} if own is None else own(self.device))}
        allocated = known.get(f"allocated_bytes.all.{when}", 0)
        return allocated, allocated - known.get(asked, allocated)


@dataclass
class _Session:
    """A recorded program: its phases, the names of its storages, the allocator's statistics of each phase."""

    record: Record
    held: dict[str, _Held] = field(default_factory=dict)
    counted: dict[str, tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=dict)
    apart: int = 0  # bytes of the optimizer's state that are not on the device

    @cached_property
    def statistics(self) -> _Statistics | None:
        return None if self.record.device.type == "cpu" else _Statistics(self.record.device)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What runs meanwhile is this phase."""
        if self.statistics is not None:
            self.statistics.reset()
        with self.record.phase(name):
            yield
        synchronize(self.record.device)
        if self.statistics is not None:
            self.counted[name] = self.statistics.peak(), self.statistics.now()

    def name(self, label: str, phase: str, named: Iterator[Tensor]) -> None:
        """Give the storages of tensors that are there at the end of a phase a name."""
        device = self.record.device.type
        storages = [one.untyped_storage() for one in named if one.device.type == device]
        self.held[label] = _Held(phase, {storage.data_ptr(): storage.nbytes() for storage in storages})

    def peak(self, phase: str) -> int:
        """The most bytes that are allocated at once in a phase."""
        return self.counted[phase][0][0] if self.counted else self.record.peak(phase, self.record.blocks)[0]

    def after(self, phase: str) -> int:
        """Bytes that are allocated when a phase ends."""
        return self.counted[phase][1][0] if self.counted else _sum(self.record.at(self.record.end(phase)))

    @cached_property
    def labels(self) -> dict[Block, str]:
        """Names of blocks. What has none: it stays when all is gone, or it is there at the end of forward."""
        known: dict[Block, str] = {}
        for label, held in self.held.items():
            alive = self.record.at(self.record.end(held.phase))
            known |= {block: label for block in alive if block.address in held.storages and block not in known}
        known |= {block: LIBRARIES for block in self.record.blocks if block.freed == inf and block not in known}
        if FORWARD in self.record.phases:
            known |= {block: "kept" for block in self.record.at(self.record.end(FORWARD)) if block not in known}
        return known

    @cached_property
    def blocks(self) -> list[Block]:
        """Blocks that are not the libraries'."""
        return [block for block in self.record.blocks if self.labels.get(block) != LIBRARIES]

    @cached_property
    def lasting(self) -> list[Block]:
        """Of these, those that are no workspaces."""
        return [block for block in self.blocks if not block.workspace]

    def bytes_at(self, moment: float) -> Counter[str]:
        """Bytes by name that are there at a moment, workspaces aside; those without one are called passing."""
        found: Counter[str] = Counter()
        for block in self.record.at(moment):
            if not block.workspace:
                found[self.labels.get(block, "passing")] += block.nbytes
        return found

    def beyond(self, phase: str) -> tuple[dict[str, int], int]:
        """What the peak of a phase is beyond that of what lasts, named, and the moment of the latter."""
        whole, without = (self.record.peak(phase, blocks)[0] for blocks in (self.record.blocks, self.blocks))
        lasting, moment = self.record.peak(phase, self.lasting)
        return {LIBRARIES: whole - without, "workspace": without - lasting}, moment

    def rounding(self, *labels: str) -> int:
        """Bytes by which the blocks of these names are larger than what was asked for."""
        asked = sum(nbytes for label in labels for nbytes in self.held[label].storages.values())
        return sum(block.nbytes for block, label in self.labels.items() if label in labels) - asked


class _Run:
    """The program that is recorded: the module is built, infers twice, and is trained for two steps."""

    session: _Session

    def __init__(self, target: Target, memory: Memory, device: torch.device, dtype: torch.dtype) -> None:
        self.target, self.memory, self.device, self.dtype = target, memory, device, dtype
        self.doing = BUILD

    def __call__(self, session: _Session) -> None:
        self.session = session
        if session.statistics is not None:
            session.statistics.reset()
        with self._phase(BUILD):
            module = self._module()
        session.name("weights", BUILD, (one for one in (*module.parameters(), *module.buffers())))
        with torch.inference_mode(), layers_marked(module.eval()):
            self._infer(module, READS)
            self._infer(module, INFERENCE)
        if self.memory.optimizer != "none":
            self._train(module.train())

    def _phase(self, name: str) -> AbstractContextManager[None]:
        self.doing = name
        return self.session.phase(name)

    def _module(self) -> nn.Module:
        if self.target.make is None:
            network = self.target.network
            shape = None if len(network.input_nodes) > 1 else self.memory.report.input
            return materialize(build(network, shape, device="meta").to(self.dtype), self.device)
        return in_type(shadow_of(self.target.make(), torch.device("cpu")), self.dtype).to(self.device)

    def _inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return to_run(self.target.arguments, self.device, self.dtype)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.memory.dtype == "mixed" else nullcontext()

    def _infer(self, module: nn.Module, phase: str) -> None:
        inputs, keywords = self._inputs()
        with ReadsNoted() if phase == READS else nullcontext(), self._autocast(), self._phase(phase):
            output = module(*inputs, **keywords)
        self.session.name(f"inputs of {phase}", phase, tensors((inputs, keywords)))
        del output

    def _train(self, module: nn.Module) -> None:
        parameters = [one for one in module.parameters() if one.requires_grad]
        if not parameters:
            raise InputError(f"{self.target.network.name} has no parameters to train: measure with --optimizer none")
        optimizer = OPTIMIZERS[self.memory.optimizer](parameters)
        inputs, keywords = self._inputs()
        session = self.session
        with layers_marked(module):
            with self._phase(WARM_UP):
                self._loss(module, inputs, keywords).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
            session.name("inputs", WARM_UP, tensors((inputs, keywords)))
            state = [one for held in optimizer.state.values() for one in held.values() if isinstance(one, Tensor)]
            session.name("state", WARM_UP, iter(state))
            session.apart = sum(one.nbytes for one in state if one.device.type != self.device.type)
            with self._phase(FORWARD):
                loss = self._loss(module, inputs, keywords)
        session.name("loss", FORWARD, iter([loss]))
        session.name("numbers", FORWARD, _numbers(loss))
        with self._phase(BACKWARD):
            loss.backward()  # type: ignore[no-untyped-call]
            del loss
        session.name("gradients", BACKWARD, (one.grad for one in parameters if one.grad is not None))
        with self._phase(STEP):
            optimizer.step()

    def _loss(self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor:
        """The sum of all outputs that have a gradient."""
        with self._autocast():
            outputs = [one.sum() for one in tensors(module(*inputs, **keywords)) if one.requires_grad]
        if not outputs:
            raise InputError(f"no output of {self.target.network.name} has a gradient: measure with --optimizer none")
        loss = outputs.pop()
        while outputs:
            loss = loss + outputs.pop()
        return loss


def _numbers(loss: Tensor) -> Iterator[Tensor]:
    """Python's numbers that autograd keeps as tensors of 8 bytes, as of x * 3, which saved-tensor hooks do not see."""
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [one for one, _ in node.next_functions]
        saved = [getattr(node, name, None) for name in ("_saved_self", "_saved_other")]
        yield from (one for one in saved if isinstance(one, Tensor) and not one.ndim and _is_number(one))


def _is_number(x: Tensor) -> bool:
    """Whether a tensor of 8 bytes was made of a Python number, which widens no tensor of its category."""
    narrow = torch.empty((), dtype=torch.float32 if x.is_floating_point() else torch.int8)
    return x.element_size() == 8 and torch.result_type(x, narrow) == narrow.dtype


def _sum(blocks: Sequence[Block]) -> int:
    return sum(block.nbytes for block in blocks)


def _phases(session: _Session, memory: Memory) -> Iterator[Phase]:
    held = memory.weights + memory.buffers
    rounding = session.rounding("weights")
    yield _phase("params and buffers", held, session.after(BUILD), {"rounding": rounding})
    yield _inference(session, memory)
    if memory.optimizer == "none":
        return
    named = ("weights", "inputs", "state")
    apart = {"state on the CPU": -session.apart}
    at_end = session.bytes_at(session.record.end(FORWARD))
    kept = at_end["kept"]
    gradients = session.bytes_at(session.record.end(BACKWARD))["gradients"]
    in_forward = held + memory.state + memory.inputs + memory.kept
    in_step = held + memory.state + memory.inputs + memory.gradients
    of_kept = session.counted[FORWARD][1][1] - session.rounding(*named, "loss") if session.counted else 0

    apart |= {"masks of one byte": -_wider_masks(memory) if session.record.device.type in ONE_BYTE_MASKS else 0}
    common = apart | {"rounding": session.rounding(*named) + of_kept}
    parts, moment = session.beyond(FORWARD)
    found = session.bytes_at(moment)
    parts |= {"outputs that are not kept": found["passing"], "not kept yet": found["kept"] - kept}
    yield _phase("forward, peak", in_forward, session.peak(FORWARD), parts | _extra(found) | common)
    parts = {LIBRARIES: at_end[LIBRARIES]} | _extra(at_end)
    yield _phase("forward, end", in_forward, session.after(FORWARD), parts | common)

    common = apart | {"rounding": session.rounding(*named, "gradients") + of_kept}
    parts, moment = session.beyond(BACKWARD)
    found = session.bytes_at(moment)
    parts |= {"gradients of activations": found["passing"], "no longer kept": found["kept"] - kept}
    parts |= {"gradients to come": found["gradients"] - gradients}
    yield _phase("backward, peak", memory.training, session.peak(BACKWARD), parts | _extra(found) | common)

    common = {"state on the CPU": -session.apart, "rounding": session.rounding(*named, "gradients")}
    found = session.bytes_at(session.record.end(BACKWARD))
    yield _phase("backward, end", in_step, session.after(BACKWARD), {LIBRARIES: found[LIBRARIES]} | common)
    parts, _ = session.beyond(STEP)
    found = session.bytes_at(session.record.end(STEP))
    used = session.record.peak(STEP, session.blocks)[0] - (found.total() - found[LIBRARIES])
    parts = {LIBRARIES: parts[LIBRARIES], "temporaries of the optimizer": used}
    yield _phase("step, peak", in_step, session.peak(STEP), parts | common)
    yield _phase("step, end", in_step, session.after(STEP), {LIBRARIES: found[LIBRARIES]} | common)


def _wider_masks(memory: Memory) -> int:
    """Bytes by which the masks of dropouts are wider in the account than those of one byte a number."""
    dropouts = [(one, one.row.node.layer) for one in memory.layers if one.kept]
    return sum(
        one.kept - int(prod(one.row.output))
        for one, layer in dropouts
        if isinstance(layer, Dropout) and layer.p < 1 and not layer.inplace
    )


def _inference(session: _Session, memory: Memory) -> Phase:
    """The peak of a pass; where every storage goes when it is last read, it is the account's."""
    record, name = session.record, f"inputs of {READS}"
    parts, _ = session.beyond(INFERENCE)
    staying = {block for block in record.at(record.end(READS)) if session.labels.get(block) != name}
    until_read = [block if block in staying else replace(block, freed=block.read) for block in session.lasting]
    tensors = record.peak(INFERENCE, session.lasting)[0]
    parts["held after the last read"] = tensors - record.peak(READS, until_read)[0]
    if session.counted:
        rounding = memory.live_in_blocks(BLOCK) - memory.peak.live
        parts["rounding"] = session.rounding("weights") + rounding
    return _phase("inference, peak", memory.inference, session.peak(INFERENCE), parts)


def _extra(found: Mapping[str, int]) -> dict[str, int]:
    """Bytes of the loss, and of the numbers that autograd keeps."""
    return {"loss": found["loss"], "Python's numbers": found["numbers"]}


def _phase(name: str, computed: int, measured: int, parts: Mapping[str, int]) -> Phase:
    return Phase(name, computed, measured, {part: nbytes for part, nbytes in parts.items() if nbytes})
