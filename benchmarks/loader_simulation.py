"""How many GPUs the loader feeds: an event simulation, for machines that we do not have.

``python -m benchmarks.loader_simulation`` prints what is assumed, and the share of the time in which GPUs compute.
Nothing here is measured. Change the assumptions to those of your machines with the options.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Assumptions:
    """One cluster and one training run; rates are per second, bytes are bytes."""

    n_nodes: int = 8
    gpus_per_node: int = 8
    documents_per_gpu: int = 32
    cells_per_document: int = 8
    image_bytes: int = 40_960
    """5 x 64 x 64 uint16."""
    transcriptome_bytes: int = 8_008
    """1,000 expressed genes."""
    images_per_second: float = 5_000.0
    """What a GPU computes, with as many transcriptomes."""
    cached_share: float = 0.0
    """Share of the store that lies in the page cache of a node, of which all its GPUs read."""
    disk_bytes_per_second: float = 0.6e9
    """Random reads of whole rows of the disk of a node."""
    is_disk_shared: bool = False
    """Whether all nodes read from one disk, as from a file system on the network."""
    memory_bytes_per_second: float = 6e9
    """What the thread of a GPU copies out of the page cache."""
    n_ahead: int = 2
    """Minibatches that may wait per GPU, besides the one that is read."""
    n_weights: float = 19e6
    """PETRI as it is, with 5,000 genes and 5 x 64 x 64 crops."""
    network_bytes_per_second: float = 20e9
    """Between GPUs, for the sum of the gradients of 4 bytes each; nothing of it is hidden behind computing."""
    jitter: float = 0.05
    """Standard deviation of the logarithm of the time of a step of a GPU."""
    stall_probability: float = 1e-4
    """Of a step of one GPU."""
    stall_factor: float = 5.0
    """How much longer such a step takes."""
    n_steps: int = 300
    seed: int = 0

    @property
    def n_gpus(self) -> int:
        return self.n_nodes * self.gpus_per_node

    @property
    def cells_per_step(self) -> int:
        return self.documents_per_gpu * self.cells_per_document

    @property
    def exchange_seconds(self) -> float:
        """Time of a ring all-reduce of the gradients."""
        return 2 * (self.n_gpus - 1) / self.n_gpus * self.n_weights * 4 / self.network_bytes_per_second


class Cluster:
    """GPUs that wait for their minibatches and for each other."""

    def __init__(self, assumed: Assumptions) -> None:
        self.assumed = assumed
        self.rng = np.random.default_rng(assumed.seed)
        self.events: list[tuple[float, int, str, int]] = []
        self.order = itertools.count()
        n = assumed.n_gpus
        self.disk_is_free_at = np.zeros(1 if assumed.is_disk_shared else assumed.n_nodes)
        self.n_ready = np.zeros(n, dtype=int)
        self.is_reading = np.zeros(n, dtype=bool)
        self.is_waiting = np.ones(n, dtype=bool)
        self.n_computing = n
        self.n_steps_done = 0
        self.computed = 0.0

    def run(self) -> float:
        """Share of the time in which a GPU computes at its usual speed, after the first tenth of the steps."""
        assumed, started = self.assumed, 0.0
        n_warm = assumed.n_steps // 10
        for gpu in range(assumed.n_gpus):
            self.read(0.0, gpu)
        while self.n_steps_done < assumed.n_steps:
            now, _, event, gpu = heapq.heappop(self.events)
            if event == "read":
                self.is_reading[gpu] = False
                self.n_ready[gpu] += 1
                self.compute_if_possible(now, gpu)
                self.read(now, gpu)
            elif event == "computed":
                self.n_computing -= 1
                if self.n_computing == 0:
                    self.push(now + assumed.exchange_seconds, "exchanged", -1)
            else:
                self.n_steps_done += 1
                if self.n_steps_done == n_warm:
                    started = now
                self.n_computing = assumed.n_gpus
                self.is_waiting[:] = True
                for each in range(assumed.n_gpus):
                    self.compute_if_possible(now, each)
        ideal = (assumed.n_steps - n_warm) * assumed.cells_per_step / assumed.images_per_second
        return ideal / (now - started)

    def push(self, time: float, event: str, gpu: int) -> None:
        heapq.heappush(self.events, (time, next(self.order), event, gpu))

    def read(self, now: float, gpu: int) -> None:
        """Start to read a minibatch, if there is room for it; misses queue at the disk in the order of requests."""
        assumed = self.assumed
        if self.is_reading[gpu] or self.n_ready[gpu] >= assumed.n_ahead + 1:
            return
        self.is_reading[gpu] = True
        n_missed = self.rng.binomial(assumed.cells_per_step, 1 - assumed.cached_share)
        cell_bytes = assumed.image_bytes + assumed.transcriptome_bytes
        disk = 0 if assumed.is_disk_shared else gpu // assumed.gpus_per_node
        done = max(now, self.disk_is_free_at[disk]) + n_missed * cell_bytes / assumed.disk_bytes_per_second
        if n_missed:
            self.disk_is_free_at[disk] = done
        else:
            done = now
        copied = assumed.cells_per_step * cell_bytes / assumed.memory_bytes_per_second
        self.push(float(done) + copied, "read", gpu)

    def compute_if_possible(self, now: float, gpu: int) -> None:
        if not self.is_waiting[gpu] or not self.n_ready[gpu]:
            return
        assumed = self.assumed
        self.is_waiting[gpu] = False
        self.n_ready[gpu] -= 1
        seconds = assumed.cells_per_step / assumed.images_per_second * self.rng.lognormal(0, assumed.jitter)
        if self.rng.random() < assumed.stall_probability:
            seconds *= assumed.stall_factor
        self.push(now + seconds, "computed", gpu)
        self.read(now, gpu)


def utilisation(assumed: Assumptions) -> float:
    """Share of the time in which GPUs compute at their usual speed."""
    return Cluster(assumed).run()


CASES: dict[str, dict[str, Any]] = {
    "local disks of 0.6 GB/s, nothing cached": {"disk_bytes_per_second": 0.6e9},
    "local disks of 3 GB/s, nothing cached": {"disk_bytes_per_second": 3e9},
    "local disks of 3 GB/s, half of it cached": {"disk_bytes_per_second": 3e9, "cached_share": 0.5},
    "the whole store in memory of every node": {"cached_share": 1.0},
    "one file system of 10 GB/s for all nodes": {"disk_bytes_per_second": 10e9, "is_disk_shared": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in asdict(Assumptions()).items():
        if not isinstance(value, bool):
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    assumed = Assumptions(**vars(parser.parse_args()))
    print("Assumed, where the table does not say otherwise:")
    for name, value in asdict(assumed).items():
        print(f"  {name} = {value:g}" if not isinstance(value, bool) else f"  {name} = {value}")
    sizes = (1, 2, 4, 8)
    columns = " | ".join(f"{n * assumed.gpus_per_node} GPUs" for n in sizes)
    print(f"\n| images per second and GPU | store | {columns} |")
    print(f"| --- | --- |{' --- |' * len(sizes)}")
    for rate in (5_000.0, 20_000.0):
        for case, changes in CASES.items():
            cluster = replace(assumed, images_per_second=rate, **changes)
            shares = [utilisation(replace(cluster, n_nodes=n)) for n in sizes]
            print(f"| {rate:,.0f} | {case} | {' | '.join(f'{share:.0%}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
