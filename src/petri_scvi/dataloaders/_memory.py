"""Free memory of the process."""

from __future__ import annotations

from pathlib import Path

import psutil

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def free_bytes() -> int:
    """Memory that this process can still fill, pages of files that may be dropped included.

    The smallest of what the machine has, what the control groups of the process allow (set by containers and job
    schedulers) and what its address space allows (``ulimit -v``).
    """
    limits = [psutil.virtual_memory().available, *_left_in_groups()]
    if resource is not None:
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            limits.append(most - psutil.Process().memory_info().vms)
    return max(0, min(limits))


def _left_in_groups() -> list[int]:
    """Memory left in each control group of this process, the inner and the outer ones."""
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        return []
    inner = next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
    left = []
    for group in [CGROUPS / inner, *(CGROUPS / inner).parents]:
        if not group.is_relative_to(CGROUPS):
            break
        try:
            most = (group / "memory.max").read_text().strip()
            used = int((group / "memory.current").read_text())
            lines = (group / "memory.stat").read_text().splitlines()
        except OSError:
            continue
        stat = {name: int(value) for name, value in map(str.split, lines)}
        if most != "max":
            # Pages of files count as used, although the system drops them when memory is needed.
            left.append(int(most) - used + stat.get("active_file", 0) + stat.get("inactive_file", 0))
    return left
