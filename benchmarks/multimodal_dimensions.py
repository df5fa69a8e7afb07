"""Do several modalities share dimensions, and do these mean the same in each?

``python -m benchmarks.multimodal_dimensions --out FOLDER`` trains PETRI, PETRI on permuted contexts and CLIP on a
synthetic screen with the recipe of the demo, fits sparse autoencoders, and compares the dimensions with the recorded
truth. What was trained is kept in the folder; a second run goes on from there. ``--trained FOLDER/synthetic`` or
``FOLDER/weak`` takes the screens and embeddings of ``benchmarks.paper_table --out FOLDER`` instead. The numbers of
dimensions are written to ``dimensions.csv`` in the folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

import petri_scvi
from benchmarks._screens import load_screen
from benchmarks._systems import Job, contrastive, petri, petri_permuted
from petri_scvi import datasets, tl
from petri_scvi._constants import CONTROL, IMAGE, RNA
from petri_scvi.common import rows_in_mdata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mudata import MuData
    from numpy.typing import NDArray

    from benchmarks._systems import Row

SYSTEMS: dict[str, Callable[[Job], Iterator[Row]]] = {
    "PETRI": petri,
    "PETRI, permuted contexts": petri_permuted,
    "CLIP": lambda job: contrastive(job, "CLIP", 64, 1),
}
FILES = {"PETRI": "petri", "PETRI, permuted contexts": "petri_permuted", "CLIP": "clip"}
"""Where :mod:`benchmarks.paper_table` leaves the embeddings of each."""
PLANS: dict[str, dict[str, Any]] = {"CLIP": {"lr": 2e-3}}
RECIPE: dict[str, Any] = {"lr": 2e-3, "loss_weights": {"rna": 3.0}}
STRONG: dict[str, Any] = {"n_cells": 6000, "n_pathways": 4, "image_size": 16, "penetrance": 1.0}
STRONG |= {"image_strength": 2.0, "rna_strength": 2.0, "shared_fraction": 1.0}
STRONG_MODEL: dict[str, Any] = {
    "embed_dim": 32,
    "n_heads": 4,
    "patch_size": 4,
    "image_encoder_depth": 2,
    "image_decoder_dim": 64,
    "expression_decoder_dim": 256,
}
STRONG_MODEL |= {"image_decoder_dim": 32, "expression_decoder_dim": 64}
"""Screen and network of ``tests/model/test_mechanism.py``: effects twice as strong, and all of them shared."""


def embed(
    name: str, mdata: MuData, network: dict[str, Any], seed: int, n_steps: int, folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Embedding of each modality, trained now or before."""
    path = folder / f"{name.replace(' ', '_').replace(',', '')}_seed{seed}_{n_steps}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        plan = PLANS.get(name, RECIPE)
        job = Job(mdata, seed, n_steps, network, {}, finished=folder, plan_kwargs=plan)
        row = next(iter(SYSTEMS[name](job)))
        np.savez(path, **row.embeddings)
        print(f"{name}, seed {seed}, {n_steps} steps: {time.perf_counter() - start:.0f} s", flush=True)
    with np.load(path) as found:
        return {modality: found[modality] for modality in found}


def trained_before(name: str, seed: int, folder: Path) -> dict[str, NDArray[np.float32]]:
    """Embedding of each modality, by the comparison of the paper."""
    with np.load(folder / f"seed_{seed}" / f"{FILES[name]}.npz") as found:
        return {modality: found[f"0 {modality}"] for modality in (IMAGE, RNA)}


def effects(mdata: MuData, modality: str, codes: sparse.csr_matrix) -> pd.DataFrame:
    """Welch's t of each dimension, cells of a pathway against controls; pathways x dimensions."""
    targets = mdata.uns["synthetic_screen"]["perturbations"]
    pathway_of = dict(zip(targets["perturbation"], targets["pathway"], strict=True)) | {CONTROL: CONTROL}
    group = mdata[modality].obs["perturbation"].astype(str).map(pathway_of)
    names, place = np.unique(group.to_numpy(dtype=str), return_inverse=True)
    indicator = sparse.csr_matrix((np.ones(len(place)), (place, np.arange(len(place)))))
    n = indicator.sum(axis=1).A1[:, None]
    mean = (indicator @ codes).toarray() / n
    variance = (indicator @ codes.multiply(codes)).toarray() / n - mean**2
    control = list(names).index(CONTROL)
    t = (mean - mean[control]) / np.sqrt(variance / n + variance[control] / n[control] + 1e-12)
    return pd.DataFrame(np.delete(t, control, axis=0), index=np.delete(names, control))


def by_visibility(
    mdata: MuData, codes: dict[str, sparse.csr_matrix], kinds: dict[str, NDArray[np.bool_]]
) -> pd.DataFrame:
    """How strongly dimensions of each kind answer to programs of each visibility: mean of t squared, 1 by chance."""
    programs = mdata.uns["synthetic_screen"]["programs"]
    rows = []
    for modality, part in codes.items():
        t = effects(mdata, modality, part).loc[programs["pathway"]].to_numpy()
        for kind, is_kind in kinds.items():
            row: dict[str, Any] = {"kind": kind, "dimensions": int(is_kind.sum()), "cells": modality}
            for visibility in ("shared", "image-only", "rna-only"):
                is_seen = (programs["visibility"] == visibility).to_numpy()
                row[visibility] = float((t[is_seen][:, is_kind] ** 2).mean()) if is_kind.any() else float("nan")
            rows.append(row)
    return pd.DataFrame(rows)


def report(
    mdata: MuData,
    name: str,
    embeddings: dict[str, NDArray[np.float32]],
    max_epochs: float,
    n_dimensions: int | None = None,
) -> pd.DataFrame:
    """Fit and describe one system, on the embedding as it is and after centering and scaling.

    Returns the numbers of dimensions: a row for each of the two.
    """
    counts = []
    rows_of = {modality: rows_in_mdata(mdata, modality) for modality in embeddings}
    joined = np.empty((mdata.n_obs, embeddings[IMAGE].shape[1]), dtype=np.float32)
    for modality, embedding in embeddings.items():
        joined[rows_of[modality]] = embedding
    spread = {modality: round(float(np.sqrt(e.var(axis=0).sum())), 2) for modality, e in embeddings.items()}
    offset = float(np.linalg.norm(embeddings[IMAGE].mean(axis=0) - embeddings[RNA].mean(axis=0)))
    print(f"\n{name}: spread {spread}, distance of the modalities' means {offset:.2f}", flush=True)
    mdata.obsm["X_raw"] = joined
    tl.center_scale(mdata, "X_raw", key_added="X_scaled")
    for key in ("X_raw", "X_scaled"):
        tl.fit_sae(mdata, key, n_dimensions=n_dimensions, max_epochs=max_epochs, progress=False)
        tl.multimodal_dimensions(mdata, {name: "X_sae"})
        result = mdata.uns["petri_scvi"]["multimodal_dimensions"]
        fit = mdata.uns["petri_scvi"]["sae"]
        print(f"{key}\n{result['summary'].to_string(index=False)}\n{fit['table'].to_string(index=False)}", flush=True)
        is_multimodal = result["table"]["is_multimodal"].to_numpy()
        shares = {modality: result["table"][f"activity_{modality}"].to_numpy() for modality in (IMAGE, RNA)}
        within = {modality: (share >= 0.1) & (share <= 0.9) for modality, share in shares.items()}
        tl.dimension_agreement(mdata, {name: "X_sae"})
        agreement = mdata.uns["petri_scvi"]["dimension_agreement"]
        kinds = {"multimodal": is_multimodal, "agreeing": np.zeros_like(is_multimodal)}
        kinds["agreeing"][agreement["table"].loc[agreement["table"]["agrees"], "dimension"]] = True
        kinds |= {"image": within[IMAGE] & ~within[RNA], "rna": within[RNA] & ~within[IMAGE]}
        codes = {modality: mdata.obsm["X_sae"][rows_of[modality]] for modality in rows_of}
        print(by_visibility(mdata, codes, kinds).to_string(index=False, float_format="{:.1f}".format))
        print(agreement["summary"].to_string(index=False), flush=True)
        counts.append(
            result["summary"].merge(agreement["summary"], how="cross", suffixes=("", "_agreement")).assign(key=key)
        )
        tl.dimension_wells(mdata, progress=False, max_cells=4000)
        print(mdata.uns["petri_scvi"]["dimension_wells_X_sae_well"]["summary"].to_string(index=False), flush=True)
    return pd.concat(counts).assign(system=name)


def screen_of_trained(folder: Path, seed: int) -> MuData:
    """The screen that :mod:`benchmarks.paper_table` embedded."""
    settings = json.loads((folder / "settings.json").read_text())
    return load_screen(settings["screen"], seed, settings["screen_arguments"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500, help="training steps of 64 cells per modality")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the screen and of training")
    parser.add_argument("--out", type=Path, default=Path("multimodal_dimensions"), help="folder of embeddings")
    parser.add_argument("--epochs", type=float, default=15, help="of the sparse autoencoder")
    parser.add_argument(
        "--dimensions", type=int, help="of the sparse autoencoder; one of 31 is active, as in the paper"
    )
    parser.add_argument(
        "--trained", type=Path, help="folder of embeddings of benchmarks.paper_table; nothing is trained"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--strong", action="store_true", help="a small screen with strong effects, all of them shared")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=[*SYSTEMS], help="compare these systems")
    arguments = parser.parse_args()
    if arguments.strong and arguments.trained:
        parser.error("--trained has the usual screens; leave --strong out")
    torch.set_num_threads(arguments.threads)
    folder = arguments.out / ("strong" if arguments.strong else "usual")
    arguments_of_screen, network = (STRONG, STRONG_MODEL) if arguments.strong else ({}, {})
    network = {**network, "linear_path": False}
    print(f"petri_scvi {petri_scvi.__version__}, torch {torch.__version__}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tables: list[pd.DataFrame] = []
    for seed in arguments.seeds:
        for name in arguments.only:
            if arguments.trained:
                mdata = screen_of_trained(arguments.trained, seed)
                embeddings = trained_before(name, seed, arguments.trained)
            else:
                mdata = datasets.synthetic_screen(seed, **arguments_of_screen)
                embeddings = embed(name, mdata, network, seed, arguments.steps, folder)
            found = report(mdata, name, embeddings, arguments.epochs, arguments.dimensions)
            tables.append(found.assign(seed=seed))
            pd.concat(tables).to_csv(arguments.out / "dimensions.csv", index=False)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
