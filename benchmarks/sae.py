"""The sparse autoencoder beside that of sae-lens, and on a million cells that stay on disk.

``python -m benchmarks.sae`` compares the two on one embedding, with the same minibatches, learning rates and number of
steps, in turns in one process; it needs sae-lens (``pip install sae-lens``). ``--large 1000000`` fits an embedding of
so many cells from a memory-mapped file in a fresh process, and measures time and peak memory.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

import petri_scvi
from benchmarks._large_file import AnonymousPeak
from benchmarks._timing import in_fresh_process, status_bytes
from petri_scvi import tl
from petri_scvi.tl._embedding import find_slots
from petri_scvi.tl.concepts._sae_minibatches import mean_and_scale, shuffled_batches
from petri_scvi.tl.concepts._sae_training import DEAD_AFTER_CELLS, fit_autoencoder, learning_rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BATCH_SIZE = 1024
GIB = 2**30


def simulate(n_cells: int, n_dims: int, rng: np.random.Generator, n_causes: int = 512) -> NDArray[np.float32]:
    """Embeddings that are made of few directions each, plus noise."""
    directions = np.random.default_rng(0).normal(size=(n_causes, n_dims)).astype(np.float32) / np.sqrt(n_dims)
    strength = rng.exponential(size=(n_cells, n_causes)).astype(np.float32)
    strength *= rng.random((n_cells, n_causes), dtype=np.float32) < 16 / n_causes
    noise = 0.05 * rng.standard_normal((n_cells, n_dims), dtype=np.float32)
    embedding: NDArray[np.float32] = strength @ directions + noise
    return embedding


def as_cells(embedding: Any) -> AnnData:
    return AnnData(obs=pd.DataFrame(index=pd.RangeIndex(len(embedding)).astype(str)), obsm={"X": embedding})


def explained(embedding: NDArray[np.float32], reconstructed: NDArray[np.float32]) -> float:
    return float(1 - np.square(embedding - reconstructed).sum() / np.square(embedding - embedding.mean(axis=0)).sum())


def fit_ours(embedding: NDArray[np.float32], n_dims: int, n_active: int, n_steps: int, seed: int) -> dict[str, float]:
    slots = find_slots(as_cells(embedding), "X")
    mean, scale, *_ = mean_and_scale(slots)
    start = time.perf_counter()
    sae, _ = fit_autoencoder(
        shuffled_batches(slots, BATCH_SIZE, np.random.default_rng(seed)),
        n_steps,
        n_dimensions=n_dims,
        n_active=n_active,
        mean=mean,
        scale=scale,
        accelerator="cpu",
        seed=seed,
        progress=False,
    )
    seconds = time.perf_counter() - start
    codes = sae.encode(embedding)
    n_dead = int((codes.getnnz(axis=0) == 0).sum())
    return {
        "seconds": seconds,
        "explained": explained(embedding, sae.decode(codes)),
        "active": codes.nnz / len(embedding),
        "dead": n_dead,
    }


def fit_lens(embedding: NDArray[np.float32], n_dims: int, n_active: int, n_steps: int, seed: int) -> dict[str, float]:
    """sae-lens with our minibatches, scale and learning rates; all else is its own."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    slots = find_slots(as_cells(embedding), "X")
    mean, scale, *_ = mean_and_scale(slots)
    center = torch.as_tensor(mean, dtype=torch.float32)

    def batches() -> Iterator[torch.Tensor]:
        for batch in shuffled_batches(slots, BATCH_SIZE, np.random.default_rng(seed)):
            yield (torch.from_numpy(batch) - center) / scale

    torch.manual_seed(seed)
    sae = BatchTopKTrainingSAE(
        BatchTopKTrainingSAEConfig(d_in=embedding.shape[1], d_sae=n_dims, k=n_active, device="cpu")
    )
    config = SAETrainerConfig(
        total_training_samples=n_steps * BATCH_SIZE,
        train_batch_size_samples=BATCH_SIZE,
        lr=learning_rate(n_dims),
        lr_end=0.0,
        lr_warm_up_steps=n_steps // 20,
        lr_decay_steps=n_steps // 5,
        adam_beta2=0.99,
        dead_feature_window=DEAD_AFTER_CELLS // BATCH_SIZE,
    )
    trainer = SAETrainer(config, sae, batches())
    start = time.perf_counter()
    trainer.fit()
    seconds = time.perf_counter() - start
    found = {"seconds": seconds}
    with torch.no_grad():
        values = (torch.from_numpy(embedding) - center) / scale
        _, raw = sae.encode_with_hidden_pre(values)
        # What sae-lens saves for inference: what reaches the learned threshold is active.
        codes = torch.where(raw > sae.topk_threshold, raw, 0).float()
        reconstructed = sae.decode(codes) * scale + center
        found |= {
            "explained": explained(embedding, reconstructed.numpy()),
            "active": float((codes > 0).sum(dim=1).float().mean()),
        }
        in_batches = [sae.decode(sae.encode(part)) for part in values.split(BATCH_SIZE)]
        found["explained_top_k"] = explained(embedding, (torch.cat(in_batches) * scale + center).numpy())
        found["dead"] = int((codes == 0).all(dim=0).sum())
    return found


def compare(name: str, embedding: NDArray[np.float32], n_dims: int, n_active: int, n_steps: int, n_runs: int) -> None:
    """Both in turns; the first of each is a short one that does not count."""
    systems = {"petri_scvi": fit_ours, "sae-lens": fit_lens}
    for fit in systems.values():
        fit(embedding[:5000], n_dims, n_active, 3, 0)
    print(f"{name}: {embedding.shape}, {n_dims} dimensions, {n_active} active, {n_steps} steps of {BATCH_SIZE}")
    for seed in range(n_runs):
        for system, fit in systems.items():
            found = fit(embedding, n_dims, n_active, n_steps, seed)
            numbers = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
            print(f"  {system}, seed {seed}: {numbers}", flush=True)


def write_large(path: Path, n_cells: int, n_dims: int) -> None:
    target = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_cells, n_dims))
    rng = np.random.default_rng(1)
    for start in range(0, n_cells, 20_000):
        target[start : start + 20_000] = simulate(min(20_000, n_cells - start), n_dims, rng)
    target.flush()


def fit_large(path: str, n_dims: int, n_active: int, max_epochs: float, n_threads: int) -> dict[str, float]:
    """Time and memory of a whole call; to be run in a fresh process."""
    torch.set_num_threads(n_threads)
    cells = as_cells(np.load(path, mmap_mode="r"))
    watcher = AnonymousPeak()
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    tl.fit_sae(cells, "X", n_dimensions=n_dims, n_active=n_active, max_epochs=max_epochs, progress=False)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    watcher.stopped.set()
    codes = cells.obsm["X_sae"]
    return {
        "wall s": wall,
        "CPU s": cpu,
        "GiB beside the file, at most": (watcher.peak - watcher.start_bytes) / GIB,
        "of these GiB of activations": (codes.data.nbytes + codes.indices.nbytes + codes.indptr.nbytes) / GIB,
        "resident GiB with the mapped file, at most": status_bytes("VmHWM") / GIB,
        "explained variance": cells.uns["petri_scvi"]["sae"]["explained_variance"],
        "active": codes.nnz / codes.shape[0],
        "dead": cells.uns["petri_scvi"]["sae"]["n_dead"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedding", type=Path, help="an .npz of embeddings of modalities, compared too")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--large", type=int, metavar="CELLS", help="fit so many cells from a file, and nothing else")
    parser.add_argument("--dimensions", type=int, default=1024, help="of --large; one of 31 is active, as in the paper")
    parser.add_argument("--epochs", type=float, default=0.5, help="of --large")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    print(f"petri_scvi {petri_scvi.__version__}, torch {torch.__version__}, {arguments.threads} threads", flush=True)
    if arguments.large is not None:
        n_active = max(1, round(arguments.dimensions * 500 / 15_360))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "embedding.npy")
            write_large(path, arguments.large, 256)
            sizes = (arguments.dimensions, n_active, arguments.epochs, arguments.threads)
            print(f"{arguments.large} x 256, dimensions, active, epochs, threads: {sizes}", flush=True)
            for name, value in in_fresh_process(fit_large, str(path), *sizes).items():
                print(f"  {name}: {value:.4g}")
        return
    compare("simulated", simulate(20_000, 128, np.random.default_rng(2)), 1024, 33, arguments.steps, arguments.runs)
    if arguments.embedding is not None:
        with np.load(arguments.embedding) as found:
            embedding = np.concatenate([found[name] for name in found])
        compare("given", embedding, 960, 31, arguments.steps, arguments.runs)


if __name__ == "__main__":
    main()
