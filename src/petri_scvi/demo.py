"""Train PETRI on a small screen and plot the results: ``python -m petri_scvi.demo``."""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch

import petri_scvi
from petri_scvi import PETRI, datasets, pages, pl, pp, tl
from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi._constants import CONTROL, EMBEDDING_KEY, IMAGES_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

N_CONTEXTS, N_CELLS = 8, 8
"""Documents per minibatch, and cells per document and modality."""

N_SCORED = 500
"""Validation cells of each modality whose reconstruction is scored."""

N_HIGHLIGHTED = 6
"""Number of perturbations with their own colour in the UMAP."""

ROSETTA_KINDS = {"image": "features", "rna": "continuous"}
"""What :func:`petri_scvi.datasets.rosetta` returns; other screens have crops and counts."""
N_STEPS, ROSETTA_STEPS = 3000, 600
"""Training steps. Those of Rosetta are slower, because the tokens of its 978 probes differ between all wells."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demo.

    Parameters
    ----------
    arguments
        Command line; that of the process if ``None``.
    """
    parser = argparse.ArgumentParser(prog="python -m petri_scvi.demo", description=__doc__)
    parser.add_argument("--data", choices=["synthetic", "real", "rosetta"], default="synthetic", help="which screen")
    parser.add_argument("--out", type=Path, default=Path("petri_demo"), help="folder for the results")
    parser.add_argument(
        "--steps",
        type=int,
        help=f"training steps, rounded to whole epochs; by default {N_STEPS}, {ROSETTA_STEPS} of Rosetta",
    )
    parser.add_argument("--cells", type=int, default=8000, help="image cells of the synthetic screen")
    options = parser.parse_args(arguments)
    options.out = options.out.expanduser()
    # Figures are written to files, so no window is needed.
    matplotlib.use("Agg")
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    mdata, edges = load(options.data, options.cells)
    kinds = ROSETTA_KINDS if options.data == "rosetta" else None
    print(f"{options.data} screen: {_sizes(mdata)}")
    model = train(mdata, options.steps or (N_STEPS if kinds is None else ROSETTA_STEPS), kinds)
    mdata.obsm[EMBEDDING_KEY] = model.get_latent_representation()

    scored = {name: rows[:N_SCORED] for name, rows in model.validation_indices.items()}
    error = model.get_reconstruction_error(indices=scored)
    gain = model.cross_modal_gain(indices=scored)
    draw_training(model, options.out / "loss_curves.png")
    if kinds is None:
        draw_crops(model, mdata, options.out / "reconstructed_crops.png")
        draw_expression(model, mdata, options.out / "reconstructed_expression.png")
    draw_umap(mdata, options.out / "umap.png")
    scores = score(mdata, edges)
    if kinds is not None:
        draw_scores(mdata, options.out / "scores.png")
        scores.to_csv(options.out / "scores.csv", index=False)
    pages.explorer(
        mdata,
        path=options.out / "explorer.html",
        edges=edges,
        genes=None if kinds is None else [],
        replicate_key=replicate_key(mdata),
        title="petri-scvi demo",
        progress=False,
    )
    model.save(str(options.out / "model"), overwrite=True)
    with columns_stay_in_modalities():
        mdata.write_h5mu(options.out / "screen.h5mu")
    summary = summarise(mdata, model, error, gain, time.perf_counter() - start)
    if kinds is not None:
        summary += "\n" + score_table(scores)
    (options.out / "summary.txt").write_text(summary)
    print(f"\n{summary}\nWritten to {options.out}/:", *sorted(path.name for path in options.out.iterdir()), sep="\n  ")


def load(name: str, n_cells: int) -> tuple[MuData, pd.DataFrame | None]:
    """Load a screen, and the gene pairs that are known of it.

    Parameters
    ----------
    name
        ``"synthetic"``, ``"real"`` or ``"rosetta"``.
    n_cells
        Image cells of the synthetic screen.

    Raises
    ------
    SystemExit
        There is no network, and a file is not in the cache.
    """
    if name == "synthetic":
        mdata = datasets.synthetic_screen(n_cells=n_cells)
    elif name == "real":
        mdata = datasets.semisynthetic_screen()
    else:
        try:
            return datasets.rosetta("TA-ORF"), datasets.stringdb()
        except (ConnectionError, FileNotFoundError) as error:
            raise SystemExit(
                "The screen Rosetta TA-ORF (3.1 MB) and the gene pairs of STRING (1.4 MB) are downloaded once, which "
                f"needs a network: {error}\n`make demo` runs without one, on a simulated screen."
            ) from error
    return mdata, mdata.uns.get("synthetic_screen", {}).get("edges")


def train(mdata: MuData, n_steps: int, kinds: dict[str, str] | None = None) -> PETRI:
    """Train the default network, for fewer steps than by default at a larger learning rate.

    Parameters
    ----------
    mdata
        A screen of :mod:`petri_scvi.datasets`.
    n_steps
        Minibatches to train on, rounded to whole passes over the cells.
    kinds
        Kind of each modality; crops and counts if ``None``.

    Returns
    -------
    The trained model.
    """
    scvi.settings.seed = 0
    PETRI.setup_mudata(mdata, modalities=kinds)
    model = PETRI(mdata)
    n_cells = max(modality.n_obs for modality in mdata.mod.values())
    n_epochs = max(1, round(n_steps * N_CONTEXTS * N_CELLS / n_cells))
    model.train(
        max_epochs=n_epochs,
        n_contexts_per_minibatch=N_CONTEXTS,
        n_cells_per_context=N_CELLS,
        # So few steps need a large learning rate, and the loss of expression varies less than that of pixels.
        plan_kwargs={"lr": 2e-3, "loss_weights": {"rna": 3.0}},
    )
    return model


def draw_training(model: PETRI, path: Path) -> None:
    """Loss of each modality by epoch."""
    modalities = list(model.module.modalities)
    figure, axes = plt.subplots(1, len(modalities), figsize=(3.5 * len(modalities), 3), layout="constrained")
    for modality, ax in zip(modalities, np.atleast_1d(axes), strict=True):
        pl.training_history(model.history, modality=modality, ax=ax)
    _save(figure, path)


def draw_crops(model: PETRI, mdata: MuData, path: Path) -> None:
    """Ten validation cells: original, masked and reconstructed."""
    indices = model.validation_indices["image"][:10]
    reconstructed = model.get_reconstruction(modality="image", indices=indices)
    ax = pl.reconstructed_crops(
        mdata["image"].obsm[IMAGES_KEY][indices],
        reconstructed.prediction,
        reconstructed.mask,
        channel_names=list(model.get_var_names()["image"]),
        show=False,
    )
    _save(ax.figure, path)


def draw_expression(model: PETRI, mdata: MuData, path: Path) -> None:
    """Masked genes of validation cells: observed against reconstructed mean in each perturbation."""
    rna = mdata["rna"][model.validation_indices["rna"]]
    reconstructed = model.get_reconstruction(modality="rna", indices=model.validation_indices["rna"])
    ax = pl.reconstructed_expression(
        rna.X, reconstructed.prediction, reconstructed.mask, groups=rna.obs["perturbation"], show=False
    )
    _save(ax.figure, path)


def draw_umap(mdata: MuData, path: Path) -> None:
    """UMAP of the embedding of both modalities, coloured by modality, perturbation and batch."""
    columns = ["modality", "perturbation", "batch"]
    pp.join_obs(mdata, columns[1:])
    cells = sc.AnnData(mdata.obsm[EMBEDDING_KEY], obs=mdata.obs[columns].astype(str))
    with warnings.catch_warnings():
        # umap-learn warns that a fixed seed makes it run on one core, which is intended: the figure is reproducible.
        warnings.simplefilter("ignore", UserWarning)
        sc.pp.neighbors(cells, use_rep="X")
        sc.tl.umap(cells, random_state=0)
    mdata.obsm["X_umap"] = cells.obsm["X_umap"]
    # More colours could not be distinguished, so only the controls and the perturbations furthest from them have one.
    shown = _furthest_perturbations(cells)
    cells.obs["perturbation"] = cells.obs["perturbation"].where(cells.obs["perturbation"].isin(shown), "other")
    colours = dict(zip(shown, _palette(len(shown)), strict=True)) | {"other": "#e3e3e3"}
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    order = np.r_[
        np.flatnonzero(cells.obs["perturbation"] == "other"), np.flatnonzero(cells.obs["perturbation"] != "other")
    ]
    for column, palette, ax in zip(columns, [["#0072b2", "#e69f00"], colours, None], axes, strict=True):
        drawn = cells[order] if column == "perturbation" else cells[np.random.default_rng(0).permutation(cells.n_obs)]
        sc.pl.umap(
            drawn.copy(), color=column, palette=palette, ax=ax, show=False, frameon=False, sort_order=False, size=8
        )
    _save(figure, path)


def score(mdata: MuData, edges: pd.DataFrame | None) -> pd.DataFrame:
    """Strength of perturbations and all scores of the embedding; they are stored in ``mdata.uns``, too."""
    replicates = replicate_key(mdata)
    tl.perturbation_strength(mdata, EMBEDDING_KEY, replicate_key=replicates, n_permutations=199, progress=False)
    settings: dict[str, Any] = {"replicate_key": replicates, "n_bootstrap": 50, "progress": False}
    return tl.score_screen(mdata, [EMBEDDING_KEY], edges=edges, **settings)


def replicate_key(mdata: MuData) -> str:
    """The replicate, or, if some replicates have no controls to center on, the cell line."""
    tables = [modality.obs for modality in mdata.mod.values()]
    has_controls = all(obs.groupby("replicate", observed=True)["is_control"].any().all() for obs in tables)
    return "replicate" if has_controls else "cell_line"


def draw_scores(mdata: MuData, path: Path) -> None:
    """Guide consistency, and how well known gene pairs are recovered, with confidence intervals."""
    figure, axes = plt.subplots(2, 1, figsize=(6, 5), layout="constrained")
    for metric, ax in zip(["guide_consistency", "edge_auc"], axes, strict=True):
        pl.score_screen(mdata, metric=metric, ax=ax)
    _save(figure, path)


def score_table(scores: pd.DataFrame) -> str:
    """Scores of each modality and of both, as text."""
    table = scores.pivot_table(index=["modality", "fusion"], columns="metric", values="value", sort=False)
    return "Scores of the embedding\n" + table.to_string(float_format="{:.3f}".format) + "\n"


def summarise(mdata: MuData, model: PETRI, error: pd.DataFrame, gain: pd.DataFrame, n_seconds: float) -> str:
    """Summary of the model and its reconstruction error, as text."""
    columns = ["modality", "source", "n_cells", "n_contexts", "loss_own", "loss_other", "gain"]
    columns += ["effect_size", "share_of_cells", "p_value"]
    last = {name: f"{losses.iloc[-1, 0]:.4f}" for name, losses in sorted(model.history.items())}
    return "\n".join(
        [
            f"petri-scvi {petri_scvi.__version__}, torch {torch.__version__}, scvi-tools {scvi.__version__}",
            f"cells: {_sizes(mdata)}; embedding {mdata.obsm[EMBEDDING_KEY].shape}",
            f"epochs: {len(model.history['train_loss'])}; all in all {n_seconds:.0f} s",
            "losses after the last epoch: " + ", ".join(f"{name} {loss}" for name, loss in last.items()),
            "",
            "Masked reconstruction of validation cells, beside predictors that know averages only",
            error.to_string(index=False, float_format="{:.4f}".format),
            "",
            "Loss next to cells of the same perturbation (own) and of another (other)",
            gain[columns].to_string(index=False, float_format="{:.3g}".format),
            "",
        ]
    )


def _furthest_perturbations(cells: sc.AnnData) -> list[str]:
    """Controls, and the perturbations whose mean embedding is furthest from theirs within a modality."""
    distance = pd.Series(0.0, index=cells.obs["perturbation"].unique())
    for name in cells.obs["modality"].unique():
        rows = (cells.obs["modality"] == name).to_numpy()
        means = pd.DataFrame(cells.X[rows]).groupby(cells.obs["perturbation"].to_numpy()[rows]).mean()
        from_control = np.linalg.norm(means - means.loc[CONTROL], axis=1) / cells.X[rows].std()
        distance = distance.add(pd.Series(from_control, index=means.index), fill_value=0)
    return [CONTROL, *distance.drop(CONTROL).nlargest(N_HIGHLIGHTED).index]


def _sizes(mdata: MuData) -> str:
    if "rosetta" in mdata.uns:
        return f"{mdata['image'].n_obs} wells of Cell Painting, {mdata['rna'].n_obs} of L1000"
    return f"{mdata['image'].n_obs} images, {mdata['rna'].n_obs} transcriptomes"


def _palette(n_colours: int) -> list[str]:
    return ["#000000", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2"][:n_colours]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    main()
