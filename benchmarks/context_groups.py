"""Do documents of related perturbations help, and what do wrong groups cost?

Run as ``python -m benchmarks.context_groups --threads 1``; ``--quick`` checks in a minute that it runs. On synthetic
screens, whose pathways are known, PETRI is trained without groups and with several kinds of groups, from the same
weights. Known pairs are then scored twice: all of them, and without those that share a group. The model without groups
is scored on the same pairs each time. Embeddings are kept in the folder; a second run goes on from there.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scvi
import torch

from benchmarks._paper_summary import paired_differences
from petri_scvi import PETRI, datasets, tl
from petri_scvi._constants import IMAGE, RNA

if TYPE_CHECKING:
    from mudata import MuData

    Groups = dict[str, list[str]]

FIRST_SEED = 100
KEY = "X_scored"
NONE = "no groups"
QUICK: dict[str, Any] = {"n_cells": 500, "n_pathways": 6, "n_genes": 60, "n_control_guides": 2}


def pathways_of(mdata: MuData) -> Groups:
    table = mdata.uns["synthetic_screen"]["perturbations"]
    return {str(name): of["perturbation"].astype(str).tolist() for name, of in table.groupby("pathway", observed=True)}


def all_pathways(pathways: Groups, rng: np.random.Generator) -> Groups:
    """Every pathway: all known pairs share a group."""
    return pathways


def half_of_pathways(pathways: Groups, rng: np.random.Generator) -> Groups:
    """Every other pathway in random order; nothing is known of the rest."""
    names = rng.permutation(sorted(pathways))[::2]
    return {str(name): pathways[str(name)] for name in sorted(names)}


def all_but_one(pathways: Groups, rng: np.random.Generator) -> Groups:
    """Every pathway without one of its members."""
    return {name: sorted(rng.permutation(members)[1:].tolist()) for name, members in pathways.items()}


def random_groups(pathways: Groups, rng: np.random.Generator) -> Groups:
    """As many groups of the same sizes, whose members are drawn at random, each target in one."""
    targets = rng.permutation([target for members in pathways.values() for target in members])
    ends = np.cumsum([len(members) for members in pathways.values()])
    return {f"random_{i}": part.tolist() for i, part in enumerate(np.split(targets, ends[:-1]))}


GROUPS = {
    "half of the pathways": half_of_pathways,
    "pathways without one member": all_but_one,
    "random groups": random_groups,
    "all pathways": all_pathways,
}


def embed(mdata: MuData, groups: Groups | None, seed: int, n_steps: int, share: float) -> dict[str, Any]:
    """Embeddings of both modalities by a model of the same first weights, whatever the groups."""
    scvi.settings.seed = seed
    PETRI.setup_mudata(mdata, context_groups=groups)
    model = PETRI(mdata)
    model.train(
        max_epochs=n_steps,
        max_steps=n_steps,
        enable_progress_bar=False,
        accelerator="cpu",
        datasplitter_kwargs={} if groups is None else {"group_share": share},
    )
    return {name: model.get_latent_representation(modality=name) for name in (IMAGE, RNA)}


def train(options: argparse.Namespace, screen: str, seed: int) -> None:
    """Systems of a screen that are not done."""
    mdata, pathways = load(options, screen, seed)
    for name in (NONE, *options.only):
        path = place(options, screen, seed, name)
        if path.exists():
            continue
        start = time.perf_counter()
        groups = None if name == NONE else GROUPS[name](pathways, np.random.default_rng(seed))
        found = embed(mdata, groups, seed, options.steps, options.share)
        np.savez(path, **found)
        print(f"{path.stem}: {time.perf_counter() - start:.0f} s", flush=True)


def load(options: argparse.Namespace, screen: str, seed: int) -> tuple[MuData, Groups]:
    arguments: dict[str, Any] = QUICK if options.quick else {"n_cells": options.cells}
    mdata = datasets.synthetic_screen(seed, **{**arguments, "difficulty": screen})
    return mdata, pathways_of(mdata)


def place(options: argparse.Namespace, screen: str, seed: int, name: str) -> Path:
    return options.out / f"{screen}_{seed}_{name.replace(' ', '_')}.npz"


def score(mdata: MuData, path: Path, left_out: Groups | None) -> pd.DataFrame:
    """Edge metrics of each modality and of both, in the shared space."""
    with np.load(path) as found:
        mdata.obsm[KEY] = np.concatenate([found[name] for name in mdata.mod])
    mdata.uns.pop("petri_scvi", None)
    return tl.score_screen(
        mdata,
        [KEY],
        edges=mdata.uns["synthetic_screen"]["edges"],
        leave_out_groups=False if left_out is None else left_out,
        n_bootstrap=0,
        progress=False,
    )


def collect(options: argparse.Namespace) -> pd.DataFrame:
    """Scores of all that is done; ``pairs`` says which groups were left out."""
    tables = []
    for screen in options.screens:
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            mdata, pathways = load(options, screen, seed)
            for name, make in GROUPS.items():
                groups = make(pathways, np.random.default_rng(seed))
                for system in (NONE, name):
                    path = place(options, screen, seed, system)
                    if not place(options, screen, seed, name).exists() or not path.exists():
                        continue
                    for pairs, left_out in (("all", None), ("not in a group", groups)):
                        if left_out is pathways:  # no known pair is left
                            continue
                        found = score(mdata, path, left_out)
                        labels = {"screen": screen, "groups": name, "pairs": pairs, "system": system, "seed": seed}
                        tables.append(found.assign(**labels))
    return pd.concat(tables, ignore_index=True)


def differences(scores: pd.DataFrame) -> pd.DataFrame:
    """With groups minus without, on the same screens and pairs, with 95 % t-intervals over screens."""
    parts = []
    for (screen, groups, pairs), part in scores.groupby(["screen", "groups", "pairs"], sort=False):
        found = paired_differences(part, reference=str(groups)).assign(screen=screen, groups=groups, pairs=pairs)
        means = part.groupby(["system", "modality", "metric"])["value"].mean()
        for column, system in (("without", NONE), ("with", groups)):
            found[column] = [means[(system, row.modality, row.metric)] for row in found.itertuples()]
        parts.append(found)
    columns = ["screen", "groups", "pairs", "modality", "metric", "without", "with", "mean", "half_width", "n_screens"]
    return pd.concat(parts, ignore_index=True)[columns]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", nargs="+", choices=["weak", "easy"], default=["weak", "easy"])
    parser.add_argument("--seeds", type=int, default=3, help=f"screens of each kind, from seed {FIRST_SEED}")
    parser.add_argument("--steps", type=int, default=300, help="minibatches of 64 cells per modality")
    parser.add_argument("--cells", type=int, default=1600, help="image cells of a screen")
    parser.add_argument("--share", type=float, default=0.5, help="share of documents that are drawn by group")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=[*GROUPS])
    parser.add_argument("--quick", action="store_true", help="one tiny screen and a few steps")
    parser.add_argument("--out", type=Path, default=Path("context_groups"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    if options.quick:
        options.screens, options.seeds, options.steps = ["easy"], 1, 3
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        for screen in options.screens:
            train(options, screen, seed)
    scores = collect(options)
    scores.to_csv(options.out / "scores.csv", index=False)
    table = differences(scores)
    table.to_csv(options.out / "differences.csv", index=False)
    shown = table[(table["metric"] == "edge_auc") & (table["modality"] == "image+rna")]
    print(shown.drop(columns=["metric", "modality"]).round(3).to_string(index=False))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
