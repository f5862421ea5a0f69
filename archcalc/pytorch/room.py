"""Room: whether a pass fits the memory that a device has, asked before anything is allocated."""

from collections.abc import Sequence
from pathlib import Path

import torch

from archcalc import units
from archcalc.analysis import Report
from archcalc.errors import InputError, RoomError
from archcalc.footprint import memory
from archcalc.roofline import WIDTHS


def require_numbers(report: Report) -> None:
    """Raise InputError where extents are letters or arrays."""
    if not all(type(extent) is int for row in report for extent in row.output):
        raise InputError(f"{report.title}: only numbers take time, no letters")


def require_room(report: Report, device: torch.device, dtype: str, optimizer: str = "none") -> None:
    """Raise RoomError where a pass, or a training step with an optimizer, needs more memory than the device has."""
    need, room = needed(report, dtype, optimizer), available(device)
    if room is not None and need > room:
        raise RoomError(
            f"{report.title} needs {units.mib(need)} in {dtype}, and {device} "
            f"has {units.mib(room)}: a smaller batch or input may fit"
        )


def room_for_all(reports: Sequence[Report], device: torch.device, dtype: str) -> bool:
    """Whether a device has the memory for these networks at once, as far as it says."""
    room = available(device)
    return room is None or sum(needed(report, dtype) for report in reports) <= room


def needed(report: Report, dtype: str, optimizer: str = "none") -> int:
    """Bytes that a pass, or a training step with an optimizer, holds at most."""
    return int(memory(report, dtype="float32", optimizer=optimizer).total) * WIDTHS[dtype] // WIDTHS["float32"]


def available(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a device, cached ones included; None where it does not say."""
    if device.type == "cpu":
        return available_on_cpu(Path("/proc/meminfo"))
    try:
        free, _ = torch.accelerator.get_memory_info(device)
        cached = torch.accelerator.memory_reserved(device) - torch.accelerator.memory_allocated(device)
    except (AttributeError, RuntimeError):
        return None
    return int(free + cached)


def available_on_cpu(meminfo: Path) -> int | None:
    """Bytes that the kernel's meminfo file calls available; None where there is none."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
