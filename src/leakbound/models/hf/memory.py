"""How much memory a process may take, asked of the device and of the limits that hold for it; and when it ran out."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
from pathlib import Path

import torch

GROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Control groups, version 2 and 1: below which mount; files of limit and use; what of the use is given up at need."""


def free_bytes(device: torch.device) -> float:
    """Bytes that the process may still take on the device; on a CPU within the limits of its control groups."""
    if device.type == "cuda":
        return float(
            torch.cuda.mem_get_info(device)[0]
            + torch.cuda.memory_reserved(device)
            - torch.cuda.memory_allocated(device)
        )
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    try:
        free = _number(Path("/proc/meminfo"), "MemAvailable:") * 1024.0
    except (OSError, StopIteration):  # not Linux: a quarter of all there is
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4
    return min(free, group_room())


def taken_bytes(device: torch.device) -> float:
    """Bytes that the process has taken on the device: weights, libraries and all else."""
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return float(torch.mps.current_allocated_memory())
    try:
        return _number(Path("/proc/self/status"), "VmRSS:") * 1024.0
    except (OSError, StopIteration):  # not Linux: the most it ever took
        import resource

        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def group_room(groups: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that the control groups of this process still allow, infinity without a limit.

    Each group above it limits it too; in a container the path that the kernel tells may not be there, but the mount is.
    """
    room = math.inf
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return room
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for name in {"", "memory"} & set(controllers.split(",")):
            mount, limit, use, cached = GROUPS[name]
            top = mounts / mount
            inner = top / path.lstrip("/")
            for folder in [inner, *(up for up in inner.parents if up.is_relative_to(top))]:
                try:
                    most = float((folder / limit).read_text())  # "max" is no number
                    kept = _number(folder / "memory.stat", cached)
                    room = min(room, max(0.0, most - float((folder / use).read_text()) + kept))
                except (OSError, ValueError, StopIteration):
                    continue
    return room


def _number(file: Path, name: str) -> int:
    """The number behind a name in a file of lines; StopIteration where it is missing."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.split()[:1] == [name]))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that memory ran out, on whichever device."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return "out of memory" in text or "can't allocate memory" in text


def release_cached(device: torch.device) -> None:
    """Hand unused blocks back to the device or the system."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another library than glibc
            ctypes.CDLL(None).malloc_trim(0)
