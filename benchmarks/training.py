"""Time and memory of the training step and of embedding, beside the direct composition and other libraries.

Run as ``python -m benchmarks.training``. Every pair is measured in turns in one run. The comparisons with
perceiver-pytorch and transformers need the extra ``benchmark``. On a GPU (``--device cuda``) the pairs are measured in
bfloat16 and with ``torch.compile`` too.
"""

from __future__ import annotations

import argparse
import platform
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

import petri_scvi
from benchmarks import _cases as cases
from benchmarks._data import embedding, large_file, waiting
from benchmarks._figure import draw
from benchmarks._profile import step_profile
from benchmarks._timing import MIB, N_REPEATS, Table, in_fresh_process, in_turns, interleave

if TYPE_CHECKING:
    from benchmarks._timing import Variant

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
ONE_LATENT: dict[str, Any] = {"name": "(b), but L = 1 as ViTMAE has one class token", "n_latents": 1}
REQUIRED_MEMORY = {("expression", "direct"): 4.0}
aten = torch.ops.aten
# What FlopCounterMode of torch 2.13 does not count: attention on a CPU, and products added in place.
UNCOUNTED = {
    aten.baddbmm_: lambda total, left, right, *_, **__: 2 * left[0] * left[1] * left[2] * right[2],
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def pairs(table: Table, run: cases.Run, n_threads: int, variant: Variant, case: str, setting: cases.Setting) -> None:
    """Ours beside the direct composition and other libraries."""
    name = f"{setting.name}{', ' * bool(variant.name)}{variant.name}"
    systems = ["ours", *RIVALS[case]]
    found = {s: (case, s, setting, run.device, variant) for s in systems if cases.is_installed(s)}
    seconds, peaks = in_turns(found, cases.one_call, run.device, n_threads, run.n_repeats)
    scale, unit = (1e3 / setting.batch, "ms per cell") if case == "image" else (1.0, "s")
    rows = {
        system: table.add(TITLES[case], name, system, [scale * t for t in times], unit, threads=n_threads)
        for system, times in seconds.items()
    }
    for rival in RIVALS[case]:
        table.compare(rows["ours"], rows.get(rival), rival, REQUIRED_TIME.get((case, rival)))
    if n_threads != run.threads[0] or variant.is_compiled:
        return  # memory does not depend on the number of threads
    held = {system: table.add(TITLES[case], name, system, peak / MIB, "MiB peak") for system, peak in peaks.items()}
    for rival in RIVALS[case]:
        table.compare(held["ours"], held.get(rival), rival, REQUIRED_MEMORY.get((case, rival)))


def scaling(table: Table, run: cases.Run) -> None:
    """Growth of time and memory of the step, and the slope on logarithmic axes."""
    setting = run.settings[1]
    axes: dict[str, tuple[str, list[int]]] = {
        "genes": ("n_genes", [300, 1000, 2500, 5000, 10_000, 20_000]),
        "cells per document (2 documents)": ("n_cells", [4, 8, 16, 32, 64]),
        "image side": ("side", [32, 64, 96, 128]),
    }
    for axis, (argument, values) in axes.items():
        section = f"scaling with {axis}"
        chosen = values[:2] if run.is_quick else values
        medians, peaks = [], []
        for value in chosen:
            point = replace(setting, n_documents=2 if argument == "n_cells" else 8, **{argument: value})
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


def flops(table: Table, run: cases.Run) -> None:
    """Operations executed per second, as a share of those of a large matrix product in the same turns."""
    setting = run.settings[1]
    section = "FLOP/s of what is executed (sharing executes fewer than the direct composition)"
    calls = {TITLES[case]: cases.CASES[case](setting, run.device)["ours"] for case in cases.CASES}
    counts = {}
    for name, call in calls.items():
        with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
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


def large_model(table: Table, run: cases.Run, setting: cases.Setting = cases.LARGE) -> None:
    """Training cells per second of a large model, on a GPU."""
    for variant in run.variants()[1:]:
        calls = {"ours": cases.step_calls(setting, run.device, variant)["ours"]}
        rates = [2 * setting.batch / t for t in interleave(calls, run.device, run.n_repeats)["ours"]]
        table.add("training, large model", setting.name, variant.name, rates, "cells/s")


def all_pairs(table: Table, run: cases.Run) -> None:
    for variant in run.variants():
        for n_threads in run.threads if run.device == "cpu" else run.threads[:1]:
            for case in RIVALS:
                pairs(table, run, n_threads, variant, case, run.settings[1])
            pairs(table, run, n_threads, variant, "image", replace(run.settings[1], **ONE_LATENT))


SECTIONS = {
    "profile": step_profile,
    "pairs": all_pairs,
    "flops": flops,
    "embedding": embedding,
    "waiting": waiting,
    "scaling": scaling,
    "file": large_file,
    "large": large_model,
}


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat: does the script run?")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the CSV and the figure")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], help="the pairs are timed with each of these")
    parser.add_argument("--repeats", type=int, default=N_REPEATS, help="timings of each call")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), help="add these sections to the CSV that is there")
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    run = cases.Run(arguments.device, arguments.threads, arguments.quick, arguments.repeats)
    versions = f"petri_scvi {petri_scvi.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    processor = torch.cuda.get_device_name() if run.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(f"{versions} | {processor}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "training.csv"
    table = Table(path, is_continued=bool(arguments.only))
    for name in arguments.only or SECTIONS:
        if name == "large" and run.device == "cpu":
            print("bf16, torch.compile and the large model are measured on a GPU only: not run", flush=True)
            continue
        torch.set_num_threads(run.threads[0])
        SECTIONS[name](table, run)
    draw(path, arguments.out / "training.png")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    main()
