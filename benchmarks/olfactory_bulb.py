"""Are the modalities of a real tissue aligned? Each spot's hidden other half is the known answer.

Run as ``python -m benchmarks.olfactory_bulb --steps 300``. Every system that has one space for both modalities is
trained on images of every other spot and counts of the rest, with blocks of neighbouring spots as contexts. Then both
halves of every spot are embedded. The table is written after each system; a second run goes on from there.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scvi
import torch
from anndata import AnnData

from benchmarks._systems import PERMUTED_KEY, Job, embed, make_petri
from petri_scvi import baselines, datasets, pp, tl
from petri_scvi._constants import CONTEXT_KEY, IMAGE, RNA

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

    from benchmarks._systems import Embeddings

    Halves = tuple[Embeddings, Embeddings]

KEY = "X_scored"
KS = (1, 5, 10)


def petri(job: Job, hidden: MuData, **changes: Any) -> Halves:
    model = make_petri(job, **changes)
    job.fit(model)
    return embed(model, job.mdata), embed(model, hidden)


def contrastive(job: Job, hidden: MuData, weight: float) -> Halves:
    """Many documents per minibatch, which the contrastive term tells apart; 0 is the control of the documents' size."""
    model = make_petri(job)
    job.fit(model, n_cells=2, n_contexts=32, contrastive_weight=weight)
    return embed(model, job.mdata), embed(model, hidden)


def published(job: Job, hidden: MuData) -> Halves:
    model = make_petri(job, linear_path=False, gene_reads="tokens")
    job.fit(model, lr=1e-3)
    return embed(model, job.mdata), embed(model, hidden)


def permuted(job: Job, hidden: MuData) -> Halves:
    rng = np.random.default_rng(job.seed)
    for mdata in (job.mdata, hidden):
        for modality in mdata.mod.values():
            modality.obs[PERMUTED_KEY] = rng.permutation(modality.obs[CONTEXT_KEY].astype(str))
    return petri(job, hidden, context_key=PERMUTED_KEY)


def clip(job: Job, hidden: MuData) -> Halves:
    scvi.settings.seed = job.seed
    baselines.CLIP.setup_mudata(job.mdata)
    model = baselines.CLIP(job.mdata)
    job.fit(model, n_cells=1, n_contexts=64)
    return embed(model, job.mdata), embed(model, hidden)


def propensity(job: Job, hidden: MuData) -> Halves:
    """Classifiers of blocks on principal components."""
    components: dict[str, Any] = {}
    for name, system in ((IMAGE, baselines.PCAPixels), (RNA, baselines.PCAExpression)):
        system.setup_mudata(job.mdata)
        components[name] = system(job.mdata, n_components=20)
        components[name].train()
    shown, other = (
        pp.build_mudata(
            **{
                name: AnnData(
                    obs=mdata[name].obs[[CONTEXT_KEY]],
                    obsm={"X_pca": model.get_latent_representation(mdata, modality=name)},
                )
                for name, model in components.items()
            }
        )
        for mdata in (job.mdata, hidden)
    )
    baselines.PropensityScore.setup_mudata(shown, embedding_keys={IMAGE: "X_pca", RNA: "X_pca"})
    model = baselines.PropensityScore(shown, n_folds=3, seed=job.seed)
    model.train()
    return (
        {name: model.get_latent_representation(modality=name) for name in shown.mod},
        {name: model.get_latent_representation(other, modality=name) for name in other.mod},
    )


SYSTEMS: dict[str, Callable[[Job, MuData], Halves]] = {
    "PETRI": petri,
    "PETRI, 2 spots per document": partial(contrastive, weight=0.0),
    "PETRI, contrastive weight 0.1": partial(contrastive, weight=0.1),
    "PETRI, contrastive weight 1": partial(contrastive, weight=1.0),
    "PETRI, permuted contexts": permuted,
    "CLIP": clip,
    "propensity scores": propensity,
    "PETRI, as published": published,
}


def score(shown: MuData, hidden: MuData, halves: Halves) -> dict[str, float]:
    """FOSCTTM of the two halves of all spots, and recall of blocks by spots of which one half was never shown."""
    parts = {}
    for name in (IMAGE, RNA):
        cells = [(mdata[name].obs, half[name]) for mdata, half in zip((shown, hidden), halves, strict=True)]
        obs = pd.concat([obs[["true_spot", "block"]] for obs, _ in cells])
        values = np.concatenate([embedding for _, embedding in cells]).astype(np.float64)
        parts[name] = AnnData(obs=obs.set_index(f"{name}_" + obs["true_spot"].astype(str)), obsm={KEY: values})
    both = pp.build_mudata(**parts)
    found: dict[str, float] = {}
    for is_centred in (False, True):
        label = ", centred" if is_centred else ""
        tl.foscttm(both, KEY, pair_key="true_spot", center=is_centred)
        table = both.uns["petri_scvi"][f"foscttm_{KEY}_true_spot"]["table"].set_index("query")
        found[f"FOSCTTM{label}"] = float(table["foscttm"]["both"])
    apart = pp.build_mudata(
        **{name: AnnData(obs=shown[name].obs[["block"]], obsm={KEY: halves[0][name]}) for name in parts}
    )
    tl.context_recall(apart, KEY, context_key="block", k=KS, center=True)
    recall = apart.uns["petri_scvi"][f"context_recall_{KEY}_block"]["table"].groupby("k")
    for k in KS:
        found[f"recall at {k}, centred"] = float(recall["recall"].mean()[k])
        found[f"chance at {k}"] = float(recall["chance"].mean()[k])
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500, help="minibatches of 64 spots per modality")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per system; the tissue is the same")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=[*SYSTEMS])
    parser.add_argument("--out", type=Path, default=Path("olfactory_bulb"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"steps_{options.steps}.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    for seed in range(options.seeds):
        for name in options.only:
            if any(row["system"] == name and row["seed"] == seed for row in rows):
                continue
            start = time.perf_counter()
            shown, hidden = datasets.olfactory_bulb(), datasets.olfactory_bulb(hidden=True)
            job = Job(shown, seed, options.steps, {}, {}, options.out, plan_kwargs={"lr": 3e-4})
            found = score(shown, hidden, SYSTEMS[name](job, hidden))
            rows.append({"system": name, "seed": seed, **found, "seconds": time.perf_counter() - start})
            pd.DataFrame(rows).to_csv(path, index=False)
            print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False), flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
