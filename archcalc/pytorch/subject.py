"""Subjects: a target's module made ready to run on one device, with the settings that its times depend on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from archcalc.analysis import Report, analyze
from archcalc.errors import ArchcalcError, CheckError, InputError
from archcalc.names import unknown
from archcalc.pytorch import timing
from archcalc.pytorch.build import build, whole_shape
from archcalc.pytorch.devices import environment, is_out_of_memory, lacking
from archcalc.pytorch.load import to_run
from archcalc.pytorch.observe import observe, tensors
from archcalc.pytorch.room import require_room
from archcalc.pytorch.shadow import shadow_of
from archcalc.targets import Target

DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
}


def dtype_named(name: str) -> torch.dtype:
    """The dtype of this name. Raises UnknownNameError."""
    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES)
    return DTYPES[name]


def require_seconds(seconds: float) -> None:
    """Raise InputError where the least time to measure is none."""
    if seconds <= 0:
        raise InputError(f"--seconds is {seconds}; it must be more than 0")


@dataclass(frozen=True)
class Settings:
    """Where and how a module runs; None is PyTorch's own choice."""

    device: torch.device
    dtype: str = "float32"
    channels_last: bool = False
    threads: int | None = None
    compiled: bool = False
    tf32: bool | None = None

    def check(self) -> None:
        """Raise InputError or UnknownNameError for what cannot be, before anything is made."""
        dtype_named(self.dtype)
        if self.tf32 and self.device.type != "cuda":
            has_none = f"{self.device} has none: add --device cuda"
            raise InputError(f"TF32 is a way CUDA devices multiply float32 numbers; {has_none}")
        if self.tf32 and self.dtype != "float32":
            raise InputError(f"TF32 replaces float32; the numbers here are {self.dtype}")

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Torch's switches set so meanwhile. Raises InputError."""
        with ExitStack() as stack:
            if self.threads is not None:
                stack.enter_context(timing.threads(self.threads))
            if self.tf32 is not None:
                stack.enter_context(_tf32(self.tf32))
            if self.compiled:
                stack.enter_context(_quiet(logging.getLogger("torch.utils.cpp_extension")))
                stack.enter_context(_compiling())
            yield

    @property
    def facts(self) -> dict[str, Any]:
        """The environment that times depend on."""
        return environment(self.device, dtype=dtype_named(self.dtype), threads=torch.get_num_threads())

    @property
    def label(self) -> str:
        """The dtype, and what else was chosen."""
        chosen = (
            ("TF32", self.tf32),
            ("no TF32", self.tf32 is False),
            ("channels last", self.channels_last),
            ("compiled", self.compiled),
        )
        return ", ".join([self.dtype, *(name for name, on in chosen if on)])


@contextmanager
def _quiet(log: logging.Logger) -> Iterator[None]:
    """No warnings meanwhile: imported where there is no CUDA device, this one says so."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _compiling() -> Iterator[None]:
    """Networks share code, and each is compiled: torch.compile would leave the ninth as it is, and say nothing."""
    config: Any = import_module("torch._dynamo").config
    with config.patch(recompile_limit=1000, fail_on_recompile_limit_hit=True):
        yield


@contextmanager
def _tf32(on: bool) -> Iterator[None]:
    """Whether CUDA devices multiply float32 numbers in TF32 meanwhile.

    The older switches set the newer ones too. The other way round, torch.compile fails where it reads the older ones
    (pytorch issue 166387).
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    switches = [matmul, cudnn.conv, cudnn.rnn]
    before = [one.fp32_precision for one in switches]
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = on
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before[0] == "tf32", "tf32" in before[1:]
        for one, value in zip(switches, before, strict=True):
            one.fp32_precision = value


@dataclass(frozen=True)
class Subject:
    """A network's report and its module, on the device, with the arguments of a pass."""

    report: Report
    module: nn.Module
    built: bool  # of the network, not traced into it
    batch: int
    settings: Settings
    args: tuple[Any, ...] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The network's."""
        return self.report.network.name

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those among the arguments."""
        return tuple(tensors((self.args, self.kwargs)))

    def forward(self) -> Callable[[], Any]:
        """A pass, of the compiled module where that is asked for."""
        run = torch.compile(self.module) if self.settings.compiled else self.module
        return partial(run, *self.args, **self.kwargs)


def rate(reports: Iterable[Report]) -> str:
    """What a table calls the inputs a second: images where they all are (N, C, H, W)."""
    return "images/s" if all(len(report.input) == 4 for report in reports) else "inputs/s"


def report_of(target: Target) -> Report:
    """What every layer costs. Raises InputError for a shape that is not of whole numbers."""
    network = target.network
    return analyze(network, None if target.shape is None else whole_shape(network, target.shape))


def subject(target: Target, settings: Settings, optimizer: str = "none") -> Subject:
    """The target's module ready to run: built from the network, or the one the network was traced from.

    With an optimizer it is a copy of that, in training mode.

    Raises InputError for a shape that is not of ints, a dtype that the device lacks, memory that is too small.
    """
    report = report_of(target)
    require_room(report, settings.device, settings.dtype, optimizer)
    kind = dtype_named(settings.dtype)
    made = build(target.network, report.input) if target.make is None else target.make()
    module = timing.prepare(
        made if optimizer == "none" else shadow_of(made, torch.device("cpu")).train(),
        device=settings.device,
        dtype=kind,
        channels_last=settings.channels_last,
    )
    args, kwargs = to_run(target.arguments, settings.device, kind, channels_last=settings.channels_last)
    batch = next((int(one.shape[0]) for one in target.arguments if one.batched), 1)
    return Subject(report, module, target.make is None, batch, settings, args, kwargs)


@contextmanager
def explained(*subjects: Subject) -> Iterator[None]:
    """Say which module fails, and where: CheckError, or InputError where the device or the compiler cannot run it."""
    settings = subjects[0].settings
    names = " and ".join(one.name for one in subjects)
    try:
        yield
    except NotImplementedError as error:
        raise lacking(names, dtype_named(settings.dtype), settings.device, error) from None
    except ArchcalcError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        for one in subjects:
            observe(one.module, *one.args, **one.kwargs)  # says where it fails
        if settings.compiled:
            raise InputError(f"torch.compile failed on {names}: {_line(error)}") from error
        raise CheckError(f"{names} failed with {type(error).__name__}: {error}") from error


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = 2 if lines and lines[0].endswith("raised:") else 1
    return " ".join(lines[:first]) or type(error).__name__
