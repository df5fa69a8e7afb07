"""Time calls side by side, measure memory in fresh processes, and keep the results in one table."""

from __future__ import annotations

import csv
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from torch import Tensor, nn

    Call = Callable[[], Any]

N_REPEATS = 5
MIB, GIB = 2**20, 2**30


@dataclass
class Row:
    """One line of the table; times and memory are spread over repeats, shares and exponents are not."""

    section: str
    setting: str
    what: str
    median: float
    unit: str
    fastest: float | None = None
    slowest: float | None = None
    threads: int = 0
    required: str = ""
    is_met: str = ""

    def line(self) -> str:
        spread = "" if self.fastest is None else f" [{self.fastest:.4g}, {self.slowest:.4g}]"
        required = f" | required {self.required}: {self.is_met}" if self.required else ""
        threads = f" ({self.threads} threads)" if self.threads else ""
        return f"  {self.setting}: {self.what}{threads}: {self.median:.4g} {self.unit}{spread}{required}"


@dataclass
class Table:
    """Rows in the order they were measured, printed and written to a CSV as they come."""

    path: Path
    is_continued: bool = False
    measured: set[str] = field(default_factory=set)
    last_section: str = ""

    def __post_init__(self) -> None:
        if not (self.is_continued and self.path.exists()):
            self._write("w", [column.name for column in fields(Row)])

    def add(self, section: str, setting: str, what: str, value: float | list[float], unit: str, **more: Any) -> Row:
        values = value if isinstance(value, list) else [value]
        spread: dict[str, Any] = {"fastest": min(values), "slowest": max(values)} if len(values) > 1 else {}
        row = Row(section, setting, what, statistics.median(values), unit, **spread, **more)
        if section not in self.measured:
            self.measured.add(section)
            self._forget(section)
        if section != self.last_section:
            print(section, flush=True)
            self.last_section = section
        print(row.line(), flush=True)
        self._write("a", [getattr(row, column.name) for column in fields(Row)])
        return row

    def compare(self, base: Row, other: Row | None, name: str, at_least: float | None = None) -> None:
        """Write into ``base`` how many times as much ``other`` takes, beside what is required."""
        if other is None:
            print(f"  {base.setting}: {name}: not installed", flush=True)
            return
        ratio = other.median / base.median
        required = {"required": f">= {at_least:g}", "is_met": "yes" if ratio >= at_least else "no"} if at_least else {}
        what, unit = f"{name} / {base.what}", f"x the {base.unit.split()[0]}"
        self.add(base.section, base.setting, what, ratio, unit, threads=base.threads, **required)
        if base.fastest is not None and other.fastest is not None:
            fastest = other.fastest / base.fastest
            self.add(base.section, base.setting, f"{what}, fastest of each", fastest, unit, threads=base.threads)

    def _forget(self, section: str) -> None:
        """Remove what an earlier run measured, so that the table holds every value once."""
        with self.path.open(newline="") as file:
            kept = [row for row in csv.reader(file) if row[0] != section]
        with self.path.open("w", newline="") as file:
            csv.writer(file).writerows(kept)

    def _write(self, mode: str, values: list[Any]) -> None:
        with self.path.open(mode, newline="") as file:
            csv.writer(file).writerow([f"{value:.5g}" if isinstance(value, float) else value for value in values])


@dataclass(frozen=True)
class Variant:
    """Precision, and whether ``torch.compile`` is used."""

    name: str = ""
    dtype: torch.dtype | None = None
    is_compiled: bool = False

    def precision(self, device: str) -> AbstractContextManager[Any]:
        return nullcontext() if self.dtype is None else torch.autocast(device, dtype=self.dtype)


PLAIN = Variant()


def forward_backward(forward: Callable[[], Tensor], network: nn.Module, device: str, variant: Variant = PLAIN) -> Call:
    """A call that computes the scalar of ``forward`` and the gradient of all parameters."""
    run = torch.compile(forward) if variant.is_compiled else forward

    def call() -> None:
        network.zero_grad(set_to_none=True)
        with variant.precision(device):
            scalar = run()
        scalar.backward()

    return call


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(call: Call, device: str) -> float:
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def interleave(calls: dict[str, Call], device: str, n_repeats: int = N_REPEATS) -> dict[str, list[float]]:
    """Seconds of each call, taken in turns A, B, A, B, ... after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(1 + n_repeats):
        for name, call in calls.items():
            elapsed = timed(call, device)
            if i:
                seconds[name].append(elapsed)
    return seconds


def serve(pipe: Connection, build: Callable[..., Call], args: tuple[Any, ...], device: str, n_threads: int) -> None:
    """Run one call whenever asked; the first answer is its peak memory, the others are seconds."""
    torch.set_num_threads(n_threads)
    call = build(*args)
    pipe.send(peak_bytes(call, device))
    while pipe.recv():
        pipe.send(timed(call, device))


def in_turns(
    builds: dict[str, tuple[Any, ...]], build: Callable[..., Call], device: str, n_threads: int, n_repeats: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds and peak memory of calls that take turns A, B, A, B, ..., each in a process of its own.

    In one process they would share an allocator, and one that frees large blocks slows down the next.
    """
    context = get_context("spawn")
    pipes, processes, peaks = {}, [], {}
    for name, args in builds.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs, build, args, device, n_threads)))
        processes[-1].start()
        theirs.close()  # so that a process that died is an EOFError here
        peaks[name] = pipes[name].recv()
    seconds: dict[str, list[float]] = {name: [] for name in builds}
    for i in range(1 + n_repeats):
        for name, pipe in pipes.items():
            pipe.send(True)
            elapsed = pipe.recv()
            if i:  # the first round does not count
                seconds[name].append(elapsed)
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()
    return seconds, peaks


def status_bytes(entry: str) -> int:
    """An entry of this process's status, such as ``VmRSS``, ``VmHWM`` (its peak) or ``RssAnon``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{entry}:")).split()[1])


def peak_bytes(call: Call, device: str) -> int:
    """Memory that a call needs beyond what was held before it; the first call of a process."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held
    before = status_bytes("VmRSS")
    call()
    return status_bytes("VmHWM") - before


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """Result of ``function(*args)`` in a process that did nothing else."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)
