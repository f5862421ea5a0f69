"""Which devices there are, and what must be known of one to read a number measured on it."""

import gc
import os
import platform
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from archcalc.errors import InputError, RoomError

OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "can't allocate memory")  # said by MPS, cuDNN and cuBLAS, the CPU


def present() -> tuple[torch.device, ...]:
    """The CPU, then the accelerator type of this machine if it has one."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    cpu = torch.device("cpu")
    return (cpu,) if accelerator is None else (cpu, torch.device(accelerator.type))


def resolve(name: str) -> tuple[torch.device, ...]:
    """The devices called ``auto`` (all present), ``cpu``, ``cuda``, ``cuda:1``, …; InputError where one is absent."""
    if name == "auto":
        return present()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise _absent(name) from None
    if device.type not in {one.type for one in present()} or (device.index or 0) >= _how_many(device.type):
        raise _absent(name)
    return (torch.device("cpu") if device.type == "cpu" else device,)


def synchronize(device: torch.device) -> None:
    """Wait until all work queued on the device is done; nothing to wait for on the CPU."""
    if _is_accelerator(device):
        torch.accelerator.synchronize(device)


def environment(device: torch.device, *, dtype: torch.dtype, threads: int) -> dict[str, object]:
    """What a measured number depends on: device, versions, threads, dtype, TF32; no host, user or path names."""
    facts: dict[str, object] = {
        "device": str(device),
        "device_name": _device_name(device),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cpus": _usable_cpus(),
        "threads": threads,
        "dtype": str(dtype).removeprefix("torch."),
    }
    if device.type == "cuda":
        cudnn: Any = torch.backends.cudnn
        facts |= {
            "cuda": torch.version.cuda,
            "cudnn": cudnn.version(),
            "tf32_matmul": torch.backends.cuda.matmul.fp32_precision == "tf32",
            "tf32_conv": cudnn.conv.fp32_precision == "tf32",
        }
    return facts


def described(facts: Mapping[str, Any]) -> str:
    """An environment in words: what device it is, with how many threads, and PyTorch's version."""
    threads = "1 CPU thread" if facts["threads"] == 1 else f"{facts['threads']} CPU threads"
    return f"{facts['device_name']}, {threads}, torch {facts['torch']}"


def lacking(what: str, dtype: torch.dtype, device: torch.device, error: Exception) -> InputError:
    """The error for what PyTorch does not implement on a device; of its own message the first line."""
    name, reason = str(dtype).removeprefix("torch."), str(error).partition("\n")[0]
    return InputError(f"{what} cannot run in {name} on {device}: {reason}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or a library on it, had too little memory."""
    return isinstance(error, torch.OutOfMemoryError | RoomError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY)
    )


@contextmanager
def memory_guard(device: torch.device) -> Iterator[None]:
    """Turn a device's out-of-memory error into a RoomError, and give back what the failed work held."""
    try:
        yield
    except (RuntimeError, RoomError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # their locals hold the tensors of the failed pass
        gc.collect()
        if torch.accelerator.is_available():
            torch.get_device_module().empty_cache()  # older versions have none of MPS in torch.accelerator
        if isinstance(error, RoomError):  # of a guard inside, around which more was held
            raise
        raise RoomError(f"out of memory on {device}: a smaller batch or input may fit") from None


_GENERATORS = threading.Lock()
"""Held while the state of generators is read or set: torch may wait forever where two threads do it at once."""


@contextmanager
def generators_kept(*devices: torch.device) -> Iterator[None]:
    """Put the random number generators of the CPU and of these devices back as they were."""
    others = {device for device in devices if _is_accelerator(device)}
    kinds = {device.type for device in others}
    indices = sorted(device.index or 0 for device in others)
    kept = torch.random.fork_rng(devices=indices, device_type=kinds.pop() if kinds else None)
    with _GENERATORS:
        kept.__enter__()
    try:
        yield
    finally:
        with _GENERATORS:
            kept.__exit__(None, None, None)


def require_dtype(device: torch.device, dtype: torch.dtype) -> None:
    """InputError where dtype is not a floating one that the device can convolve in."""
    try:
        if not dtype.is_floating_point:
            raise TypeError
        with torch.inference_mode(), memory_guard(device):
            probe = torch.ones((1, 1, 1, 1), device=device, dtype=dtype)
            torch.nn.functional.conv2d(probe, probe)
    except (RuntimeError, TypeError):
        raise InputError(f"{device} cannot convolve in {str(dtype).removeprefix('torch.')}") from None


def cpu_model() -> str:
    """The CPU's model name as the kernel or the platform gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _device_name(device: torch.device) -> str:
    if not _is_accelerator(device):
        return cpu_model()
    name_of = getattr(torch.get_device_module(device), "get_device_name", None)
    return device.type if name_of is None else str(name_of(device))


def _usable_cpus() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _is_accelerator(device: torch.device) -> bool:
    return device.type not in {"cpu", "meta"}


def _how_many(kind: str) -> int:
    return 1 if kind == "cpu" else torch.accelerator.device_count()


def _absent(name: str) -> InputError:
    names = ["cpu", *(f"{one.type}:{i}" for one in present()[1:] for i in range(_how_many(one.type)))]
    return InputError(f"no device {name!r} here: present are {', '.join(names)}")
