"""Time and memory of the training step and of embedding, beside the direct composition and other libraries.

Run as ``python -m benchmarks.training``. Every pair is measured in turns in one run. The comparisons with
perceiver-pytorch and transformers need the extra ``benchmark``. On a GPU (``--device cuda``) the pairs are measured in
bfloat16 and with ``torch.compile`` too.
"""

from __future__ import annotations

import argparse
import copy
import platform
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

import petri_scvi
from benchmarks import _cases as cases
from benchmarks._figure import draw
from benchmarks._large_file import SHAPE, embed_screen, write_screen
from benchmarks._timing import N_REPEATS, PLAIN, Table, Variant, forward_backward, in_fresh_process, interleave
from petri_scvi.dataloaders import DocumentDataModule, open_rows
from petri_scvi.model._documents import encode_cells

if TYPE_CHECKING:
    from benchmarks._timing import Call
    from petri_scvi._module import PETRIModule

MIB = 2**20
MATRIX = 2048
RIVALS = {
    "expression": ["direct", "perceiver-pytorch"],
    "image": ["transformers ViTMAE"],
    "step": ["direct"],
}
TITLES = {
    "expression": "expression encoder, forward + backward",
    "image": "image encoder + decoder, forward + backward",
    "step": "training step",
}
REQUIRED_TIME = {("expression", "direct"): 5.0, ("image", "transformers ViTMAE"): 1.0, ("step", "direct"): 3.0}
REQUIRED_MEMORY = {("expression", "direct"): 4.0}
aten = torch.ops.aten
# What FlopCounterMode of torch 2.13 does not count: attention on a CPU.
CPU_ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


@dataclass(frozen=True)
class Run:
    """How the script was called."""

    device: str
    threads: list[int]
    is_quick: bool

    @property
    def n_repeats(self) -> int:
        return 1 if self.is_quick else N_REPEATS

    @property
    def settings(self) -> list[cases.Setting]:
        small = [replace(cases.A, n_genes=100, embed_dim=64), replace(cases.B, n_genes=500, embed_dim=64)]
        return small if self.is_quick else [cases.A, cases.B]

    def variants(self) -> list[Variant]:
        if self.device == "cpu":
            return [PLAIN]
        half = torch.bfloat16
        return [PLAIN, Variant("bf16", half), Variant("bf16, compiled", half, is_compiled=True)]


def pairs(table: Table, run: Run, n_threads: int, variant: Variant) -> None:
    """Ours beside the direct composition and other libraries: time in turns, memory each in a process of its own."""
    setting = run.settings[1]
    name = f"{setting.name}{', ' * bool(variant.name)}{variant.name}"
    for case, rivals in RIVALS.items():
        calls = cases.CASES[case](setting, run.device, variant)
        seconds = interleave(calls, run.device, run.n_repeats)
        per_cell = 1e3 / setting.batch if case == "image" else 1.0
        unit = "ms per cell" if case == "image" else "s"
        rows = {
            which: table.add(TITLES[case], name, which, [t * per_cell for t in times], unit, threads=n_threads)
            for which, times in seconds.items()
        }
        for rival in rivals:
            table.compare(rows["ours"], rows.get(rival), rival, REQUIRED_TIME.get((case, rival)))
        if n_threads != run.threads[0] or variant.is_compiled:
            continue  # memory does not depend on the number of threads
        peaks = {}
        for which in calls:
            peak = in_fresh_process(cases.peak_of, case, which, setting, run.device, n_threads, variant)
            peaks[which] = table.add(TITLES[case], name, which, peak / MIB, "MiB peak")
        for rival in rivals:
            table.compare(peaks["ours"], peaks.get(rival), rival, REQUIRED_MEMORY.get((case, rival)))


def parts_of_step(setting: cases.Setting, device: str) -> dict[str, Call]:
    """Forward and backward of each part of the step alone, on what the part before it made."""
    module = cases.make_module(setting, device)
    cells = cases.make_cells(setting, device)
    minibatch = {"cells": cells, "context": torch.arange(setting.n_documents, device=device)}
    outputs, predictions, _ = module(minibatch)
    outputs, predictions = detached(outputs), detached(predictions)
    visible = {name: (~mask).nonzero()[:, 1].reshape(setting.batch, -1) for name, mask in outputs["mask"].items()}
    documents = {name: part.unflatten(0, (setting.n_documents, -1)) for name, part in outputs["latents"].items()}
    calls: dict[str, Call] = {}
    for name, title in [("rna", "expression"), ("image", "image")]:
        modality = module.modality(name)
        calls[f"{title} encoder"] = forward_backward(
            lambda m=modality, n=name: m.encode(outputs["inputs"][n], visible[n]).square().sum(), module, device
        )
        calls[f"{title} decoder"] = forward_backward(
            lambda n=name: module.generative({n: outputs["fused"][n]}, outputs["inputs"])[n].square().sum(),
            module,
            device,
        )
        calls[f"{title} loss"] = forward_backward(
            lambda n=name: module.loss(minibatch, outputs, {n: predictions[n]}).loss, module, device
        )
    calls["set transformer"] = forward_backward(
        lambda: torch.stack([part.square().sum() for part in module.set_transformer(documents).values()]).sum(),
        module,
        device,
    )
    return {**calls, **step_of(module, minibatch)}


def step_of(module: PETRIModule, minibatch: dict[str, Any]) -> dict[str, Call]:
    """The optimizer alone, and the whole step."""
    trained = copy.deepcopy(module)  # training it changes nothing else
    optimizer = torch.optim.AdamW(trained.parameters(), fused=True)
    whole = forward_backward(lambda: trained(minibatch)[2].loss, trained, str(next(module.parameters()).device.type))
    whole()
    return {"optimizer": optimizer.step, "whole step": lambda: (whole(), optimizer.step())}


def detached(tensors: dict[str, Any]) -> dict[str, Any]:
    """Copies that ask for a gradient where one was computed, as in the step."""
    return {
        name: detached(value) if isinstance(value, dict) else value.detach().requires_grad_(value.requires_grad)
        for name, value in tensors.items()
    }


def step_profile(table: Table, run: Run) -> None:
    """Share of each part, and of the operators that take longest."""
    section = "profile of the training step"
    for setting in run.settings:
        calls = parts_of_step(setting, run.device)
        seconds = {
            name: float(np.median(times)) for name, times in interleave(calls, run.device, run.n_repeats).items()
        }
        total = sum(value for name, value in seconds.items() if name != "whole step")
        table.add(section, setting.name, "whole step", seconds["whole step"], "s", threads=run.threads[0])
        table.add(section, setting.name, "sum of its parts", total, "s", threads=run.threads[0])
        for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
            if name != "whole step":
                table.add(section, setting.name, name, 100 * value / total, "% of the parts")
        with profile() as profiler:
            calls["whole step"]()
        averages = sorted(profiler.key_averages(), key=lambda average: -average.self_cpu_time_total)
        all_operators = sum(average.self_cpu_time_total for average in averages)
        for average in averages[:8]:
            share = 100 * average.self_cpu_time_total / all_operators
            table.add(section, setting.name, f"operator {average.key}", share, "% of all operators")


def scaling(table: Table, run: Run) -> None:
    """Growth of time and memory of the step, and the slope on logarithmic axes."""
    setting = run.settings[1]
    axes: dict[str, tuple[str, list[int]]] = {
        "genes": ("n_genes", [300, 1000, 2500, 5000, 10_000, 20_000]),
        "cells per document": ("n_cells", [4, 8, 16, 32, 64]),
        "image side": ("side", [32, 64, 96, 128]),
    }
    for axis, (argument, values) in axes.items():
        section = f"scaling with {axis}"
        chosen = values[:2] if run.is_quick else values
        medians, peaks = [], []
        for value in chosen:
            point = replace(setting, **{argument: value})
            times, peak = in_fresh_process(
                cases.scaling_point, point, run.device, run.threads[0], min(run.n_repeats, 3)
            )
            row = table.add(section, f"{value}", "step", times, "s", threads=run.threads[0])
            medians.append(row.fastest if row.fastest is not None else row.median)
            peaks.append(peak / MIB)
            table.add(section, f"{value}", "step", peaks[-1], "MiB peak")
        for quantity, measured in [("time (fastest)", medians), ("memory", peaks)]:
            slope = np.polyfit(np.log(chosen), np.log(measured), 1)[0]
            last = np.log(measured[-1] / measured[-2]) / np.log(chosen[-1] / chosen[-2])
            table.add(section, f"{chosen[0]} to {chosen[-1]}", f"exponent of {quantity}", float(slope), "")
            table.add(section, f"{chosen[-2]} to {chosen[-1]}", f"exponent of {quantity}", float(last), "")


def flops(table: Table, run: Run) -> None:
    """Operations executed per second, as a share of those of a large matrix product in the same turns."""
    setting = run.settings[1]
    section = "FLOP/s of what is executed (sharing executes fewer than the direct composition)"
    calls = {TITLES[case]: cases.CASES[case](setting, run.device)["ours"] for case in cases.CASES}
    counts = {}
    for name, call in calls.items():
        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
            call()
        counts[name] = counter.get_total_flops()
    left, right = torch.randn(2, MATRIX, MATRIX, device=run.device)
    counts["matrix product"] = 2 * MATRIX**3
    seconds = interleave({**calls, "matrix product": lambda: left @ right}, run.device, run.n_repeats)
    for quantity, reduce in [("median", np.median), ("fastest", np.min)]:
        peak = counts["matrix product"] / reduce(seconds["matrix product"])
        table.add(section, quantity, f"matrix product {MATRIX}^3", peak / 1e9, "GFLOP/s", threads=run.threads[0])
        for name in calls:
            achieved = counts[name] / reduce(seconds[name])
            table.add(section, quantity, name, 100 * achieved / peak, "% of the matrix product")


def embedding(table: Table, run: Run) -> None:
    """Cells per second of the path of ``get_latent_representation``, from memory."""
    setting = replace(run.settings[1], n_cells=64)  # 512 cells
    section = "embedding, cells in memory"
    module = cases.make_module(setting, run.device).eval()
    cells = cases.make_cells(setting, "cpu")
    stored = {
        "image": (cells["image"] * 20 + 128).clamp(0, 255).to(torch.uint8).numpy(),
        "rna": sparse.csr_array(cells["rna"].numpy()),
    }
    calls = {}
    for name, array in stored.items():
        for batch_size in (128, 512):
            reader, rows = open_rows(array), np.arange(setting.batch)
            calls[f"{name}, {batch_size} per pass"] = lambda n=name, r=reader, b=batch_size, rows=rows: [
                latents.mean(dim=1).cpu() for latents in encode_cells(module, n, r, rows, batch_size=b)
            ]
    for name, times in interleave(calls, run.device, run.n_repeats).items():
        rates = [setting.batch / elapsed for elapsed in times]
        table.add(section, setting.name, name, rates, "cells/s", threads=run.threads[0])


def large_file(table: Table, run: Run) -> None:
    """Embed the cells of a file, whose crops are mapped and not loaded."""
    n_cells = 5000 if run.is_quick else 100_000
    section = f"embedding, {n_cells:,} cells of each modality from an .h5mu file (one block, D = 32)"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "screen.h5mu"
        write_screen(path, n_cells)
        n_bytes = path.stat().st_size
        found = in_fresh_process(embed_screen, str(path), run.threads[0], run.device)
    table.add(section, "file", "size", n_bytes / MIB, "MiB")
    table.add(section, "file", "open, check and register", found["setup"], "s", threads=run.threads[0])
    for name, shape in [("image", " x ".join(map(str, SHAPE))), ("rna", "1,000 genes")]:
        table.add(section, shape, name, n_cells / found[name], "cells/s", threads=run.threads[0])
    table.add(section, "memory", "peak without mapped pages, beyond the imports", found["anonymous"] / MIB, "MiB")
    table.add(section, "memory", "the same by size of the file", 100 * found["anonymous"] / n_bytes, "%")
    table.add(section, "memory", "peak with mapped pages, which can be dropped", found["resident"] / MIB, "MiB")


def waiting(table: Table, run: Run) -> None:
    """Share of an epoch that is spent waiting for the next minibatch."""
    for setting in run.settings:
        n_cells = 512
        rng = np.random.default_rng(0)
        shape = (n_cells, setting.n_channels, setting.side, setting.side)
        codes = {name: np.arange(n_cells) % 16 for name in ("image", "rna")}
        counts = sparse.csr_array(cases.make_counts(n_cells, setting.n_genes).numpy())
        with tempfile.TemporaryDirectory() as folder:
            images = np.memmap(Path(folder) / "images", dtype=np.uint8, mode="w+", shape=shape)
            images[:] = rng.integers(256, size=shape, dtype=np.uint8)
            readers = {"image": open_rows(images), "rna": open_rows(counts)}
            wait, total = epoch(cases.make_module(setting, run.device), DocumentDataModule(readers, codes), run.device)
        section = "waiting for data (crops mapped from disk, counts sparse in memory)"
        table.add(section, setting.name, "share of an epoch", 100 * wait / total, "%", threads=run.threads[0])


def epoch(module: PETRIModule, data: DocumentDataModule, device: str) -> tuple[float, float]:
    """Seconds in ``next``, and of the whole epoch."""
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    waited, start = 0.0, time.perf_counter()
    minibatches = iter(data.train_dataloader())
    while True:
        asked = time.perf_counter()
        minibatch = next(minibatches, None)
        waited += time.perf_counter() - asked
        if minibatch is None:
            break
        minibatch["cells"] = {name: cells.to(device) for name, cells in minibatch["cells"].items()}
        forward_backward(lambda found=minibatch: module(found)[2].loss, module, device)()
        optimizer.step()
    return waited, time.perf_counter() - start


def large_model(table: Table, run: Run) -> None:
    """Training cells per second of a large model, on a GPU."""
    for variant in run.variants()[1:]:
        calls = {"ours": cases.step_calls(cases.LARGE, run.device, variant)["ours"]}
        rates = [2 * cases.LARGE.batch / t for t in interleave(calls, run.device, run.n_repeats)["ours"]]
        table.add("training, large model", cases.LARGE.name, variant.name, rates, "cells/s")


def measure(table: Table, run: Run) -> None:
    torch.set_num_threads(run.threads[0])
    step_profile(table, run)
    for variant in run.variants():
        for n_threads in run.threads if run.device == "cpu" else run.threads[:1]:
            torch.set_num_threads(n_threads)
            pairs(table, run, n_threads, variant)
    torch.set_num_threads(run.threads[0])
    for section in (flops, embedding, waiting, scaling, large_file):
        section(table, run)
    if run.device == "cuda":
        large_model(table, run)
    else:
        print("bf16, torch.compile and the large model are measured on a GPU only: not run", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat: does the script run?")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the CSV and the figure")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], help="the pairs are timed with each of these")
    arguments = parser.parse_args()
    run = Run(arguments.device, arguments.threads, arguments.quick)
    versions = f"petri_scvi {petri_scvi.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    processor = torch.cuda.get_device_name() if run.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(f"{versions} | {processor}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = Table()
    try:
        measure(table, run)
    finally:  # what was measured until an interruption
        table.write(arguments.out / "training.csv")
    draw(arguments.out / "training.csv", arguments.out / "training.png")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    main()
