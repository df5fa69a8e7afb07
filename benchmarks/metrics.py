"""Time and memory of the evaluation functions, beside plain loops and EFAAR benchmarks.

The comparison of edges needs ``make oracles`` first.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import tempfile
import time
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.metrics.pairwise import cosine_similarity

import petri_scvi
from petri_scvi import tl

if TYPE_CHECKING:
    from collections.abc import Callable

N_DIMS = 256


N_REPEATS = 3
"""Comparisons take the fastest of so many runs, in turns, so that what else the machine does weighs on all alike."""


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def fastest(*calls: Callable[[], Any]) -> list[float]:
    """Seconds of each call, the calls taking turns."""
    return list(np.min([[timed(call) for call in calls] for _ in range(N_REPEATS)], axis=0))


def guide_profiles(n_genes: int, n_guides: int) -> AnnData:
    values = np.random.default_rng(0).normal(size=(n_genes * n_guides, N_DIMS))
    names = pd.Index([f"sg{i}" for i in range(len(values))])
    return AnnData(
        values, obs=pd.DataFrame({"target_gene": np.repeat(np.arange(n_genes), n_guides).astype(str)}, names)
    )


def loop_consistency(profiles: AnnData, n_null: int, n_genes: int) -> None:
    """The same null and statistic, one draw at a time, for one number of guides."""
    rng = np.random.default_rng(0)
    targets = profiles.obs["target_gene"].to_numpy()
    genes, n_guides = np.unique(targets), 4
    upper = np.triu_indices(n_guides, k=1)
    rows_of = {gene: np.flatnonzero(targets == gene) for gene in genes}
    null = []
    for _ in range(n_null):
        rows = [rng.choice(rows_of[gene]) for gene in rng.choice(genes, size=n_guides, replace=False)]
        null.append(cosine_similarity(profiles.X[rows])[upper].mean())
    for gene in genes[:n_genes]:
        similarity = cosine_similarity(profiles.X[rows_of[gene]])[upper].mean()
        (1 + np.sum(np.array(null) >= similarity)) / (1 + n_null)


def guide_consistency() -> None:
    profiles = guide_profiles(2000, 4)
    smaller = guide_profiles(900, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 20,000 draws are too few for a lone hit among 2,000 genes
        ours_asked, ours, ours_20k = fastest(
            lambda: tl.guide_consistency(profiles, n_null=20_000),
            lambda: tl.guide_consistency(profiles, n_null=50_000),
            lambda: tl.guide_consistency(smaller, n_null=20_000),
        )
    share = 10  # the loop is timed on a tenth of the draws and genes
    loop = share * fastest(lambda: loop_consistency(profiles, 20_000 // share, 2000 // share))[0]
    print(f"guide consistency, 2,000 genes x 4 guides, 20,000 draws: {ours_asked:.2f} s")
    print(f"  plain loop (a tenth timed): {loop:.1f} s, {loop / ours_asked:.0f} times as long")
    print(f"  50,000 draws: {ours:.2f} s; 900 genes, 20,000 draws: {ours_20k:.2f} s")


def edges() -> None:
    rng = np.random.default_rng(0)
    n_genes = 5000
    names = np.array([f"GENE{i}" for i in range(n_genes)])
    table = pd.DataFrame(names[rng.integers(n_genes, size=(58_059, 2))], columns=["entity1", "entity2"])
    table = pd.concat([table, table.set_axis(["entity2", "entity1"], axis=1)])  # both directions, as in StringDB.txt
    profiles = AnnData(rng.normal(size=(n_genes, N_DIMS)), obs=pd.DataFrame({"target_gene": names}, index=names))
    tl.edge_recall(profiles[:500].copy(), table)  # what the first call loads is not counted
    calls = [lambda: tl.edge_recall(profiles, table), lambda: tl.efaar_recall(profiles, table)]
    if importlib.util.find_spec("efaar_benchmarking") is None:
        ours, two_sided = fastest(*calls)
        print(f"edges, {n_genes:,} genes, 58,059 edges: edge_recall {ours:.2f} s, efaar_recall {two_sided:.2f} s")
        print("  efaar_benchmarking is not installed: make oracles")
        return
    from efaar_benchmarking.benchmarking import known_relationship_benchmark
    from sklearn.utils import Bunch

    screen = Bunch(features=pd.DataFrame(profiles.X), metadata=profiles.obs.reset_index(drop=True))
    with tempfile.TemporaryDirectory() as folder:
        table.to_csv(Path(folder) / "mine.txt", index=False)
        calls.append(lambda: known_relationship_benchmark(screen, "target_gene", ["mine"], [(0.05, 0.95)], 20, folder))
        ours, two_sided, theirs = fastest(*calls)
    print(f"edges, {n_genes:,} genes, 58,059 edges: edge_recall {ours:.2f} s, efaar_recall {two_sided:.2f} s")
    print(
        f"  efaar_benchmarking: {theirs:.1f} s, {theirs / two_sided:.0f} times as long as efaar_recall, "
        f"{theirs / ours:.0f} times as long as edge_recall"
    )


def cells(n_cells: int) -> AnnData:
    """Random cells of 8 replicates and 500 genes x 4 guides, a tenth of them controls."""
    rng = np.random.default_rng(0)
    gene = rng.integers(500, size=n_cells)
    is_control = rng.random(n_cells) < 0.1
    names = np.array([f"GENE{i}" for i in range(500)] + ["non-targeting"])
    code = np.where(is_control, 500, gene)
    guide = pd.Categorical.from_codes(
        code * 4 + rng.integers(4, size=n_cells), [f"{g}_{i}" for g in names for i in range(4)]
    )
    obs = pd.DataFrame(
        {
            "target_gene": pd.Categorical.from_codes(code, names),
            "guide": guide,
            "replicate": pd.Categorical.from_codes(rng.integers(8, size=n_cells), [f"r{i}" for i in range(8)]),
        },
        index=pd.RangeIndex(n_cells).astype(str),
    )
    embedding = np.empty((n_cells, N_DIMS), dtype=np.float32)
    for start in range(0, n_cells, 100_000):
        rng.standard_normal(dtype=np.float32, out=embedding[start : start + 100_000])
    return AnnData(obs=obs, obsm={"X_emb": embedding})


def peak_bytes() -> int:
    """Largest resident memory so far; unlike ``ru_maxrss`` it does not include that of the parent process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def stream_part(n_cells: int) -> None:
    before = peak_bytes()
    adata = cells(n_cells)
    n_bytes = adata.obsm["X_emb"].nbytes
    made = peak_bytes()
    start = time.perf_counter()
    tl.center_scale(adata, "X_emb", key_added="X_emb")
    tl.whiten(adata, "X_emb", key_added="X_emb")
    tl.aggregate_profiles(adata, "X_emb")
    seconds = time.perf_counter() - start
    print(f"center-scale, whiten, aggregate in place, {n_cells:,} x {N_DIMS} float32: {seconds:.0f} s")
    print(f"  peak {(peak_bytes() - before) / n_bytes:.2f} of the array ({(made - before) / n_bytes:.2f} to make it)")


def stream() -> None:
    """In a process of its own, whose peak is that of this part."""
    process = get_context("spawn").Process(target=stream_part, args=(2_000_000,))
    process.start()
    process.join()


def pipeline() -> None:
    adata = cells(100_000)
    table = pd.DataFrame({"a": [f"GENE{i}" for i in range(0, 500, 2)], "b": [f"GENE{i}" for i in range(1, 500, 2)]})

    def everything() -> None:
        tl.center_scale(adata, "X_emb")
        tl.whiten(adata, "X_emb_scaled")
        guides = tl.aggregate_profiles(adata, "X_emb_scaled_whitened")
        tl.guide_consistency(guides)
        tl.edge_recall(tl.aggregate_guides(guides), table)

    print(f"all steps, 100,000 x {N_DIMS}: {timed(everything):.1f} s")
    scored = timed(lambda: tl.score_screen(adata, ["X_emb"], edges=table, progress=False))
    print(f"score_screen of the same, 200 resamples: {scored:.1f} s")


PARTS = {"gc": guide_consistency, "edges": edges, "stream": stream, "pipeline": pipeline}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all if none is named")
    chosen = parser.parse_args().parts
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; pass some of {', '.join(PARTS)}")
    versions = f"petri_scvi {petri_scvi.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    print(versions, "|", platform.processor() or platform.machine())
    for part in chosen or PARTS:
        PARTS[part]()
