"""How the time of ``tl.guide_model`` grows with genes and dimensions; ``python -m benchmarks.guide_model``."""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import time
import warnings

import jax
import numpy as np
import numpyro
import pandas as pd
from anndata import AnnData

from petri_scvi import tl

SIZES = ((75, 64), (150, 64), (300, 64), (600, 64), (600, 16), (600, 32))
N_GUIDES, N_CONTROLS, MODALITIES = 4, 20, ("image", "rna")


def screen(n_genes: int, n_dims: int, seed: int = 0) -> AnnData:
    """Profiles of guides in two modalities, effects half shared, efficacies from a beta distribution."""
    rng = np.random.default_rng(seed)
    gene = np.append(np.repeat(np.arange(n_genes), N_GUIDES), np.full(N_CONTROLS, -1))
    strength = np.exp(rng.normal(-1, 1, size=n_genes))
    shared = strength[:, None] * rng.normal(size=(n_genes, n_dims))
    efficacy = np.where(gene < 0, 0.0, rng.beta(2, 1, size=len(gene)))
    names = np.where(gene < 0, "non-targeting", np.char.add("G", gene.astype(str)))
    obs = pd.DataFrame({"guide": [f"g{i}" for i in range(len(gene))], "target_gene": names})
    obs.index = obs["guide"].astype(str) + "_row"
    layers = {}
    for name in MODALITIES:
        n_cells = rng.integers(30, 300, size=len(gene))
        effect = shared + 0.5 * strength[:, None] * rng.normal(size=(n_genes, n_dims))
        noise = np.sqrt(0.1**2 + 1 / n_cells)[:, None] * rng.normal(size=(len(gene), n_dims))
        layers[name] = efficacy[:, None] * effect[gene] + noise
        obs[f"n_cells_{name}"] = n_cells
    obs["n_cells"] = obs[[f"n_cells_{name}" for name in MODALITIES]].sum(axis=1)
    return AnnData(X=np.mean(list(layers.values()), axis=0), obs=obs, layers=layers)


def measure(n_genes: int, n_dims: int, method: str) -> str:
    """One line of the table, from a process of its own."""
    profiles = screen(n_genes, n_dims)
    start, start_cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        genes = tl.guide_model(profiles, method=method, progress=False)  # type: ignore[arg-type]
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    result = genes.uns["petri_scvi"]["guide_model"]
    table = result.get("diagnostics")
    mixed = "" if table is None else f"R-hat <= {table['r_hat'].max():.2f}, ESS >= {table['ess'].min():.0f}, "
    if table is not None:
        mixed += f"{table['n_poor'].sum()} of {table['n_values'].sum()} values not mixed, "
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    n_warnings = sum("petri_scvi" in w.filename or issubclass(w.category, UserWarning) for w in caught)
    return (
        f"| {method} | {n_genes} | {n_dims} | {wall:.0f} | {cpu:.0f} | {memory:.1f} | {mixed}{result['n_divergent']} "
        f"divergent, {n_warnings} warnings |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=["nuts", "svi"], nargs="+", default=["nuts", "svi"])
    parser.add_argument("--size", type=int, nargs=2, action="append", help="genes and dimensions; may be repeated")
    arguments = parser.parse_args()
    print(f"jax {jax.__version__}, numpyro {numpyro.__version__}, {platform.processor() or platform.machine()}")
    print(f"{N_GUIDES} guides per gene, {len(MODALITIES)} modalities")
    print("| method | genes | dimensions | wall s | CPU s | peak GiB | diagnostics |\n|---|---|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for method in arguments.method:
            for n_genes, n_dims in arguments.size or SIZES:
                print(pool.apply(measure, (n_genes, n_dims, method)), flush=True)


if __name__ == "__main__":
    main()
