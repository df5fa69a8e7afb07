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

MODEL: dict[str, Any] = {
    "embed_dim": 64,
    "n_heads": 4,
    "patch_size": 8,
    "image_encoder_depth": 3,
    "image_decoder_depth": 1,
    "image_decoder_dim": 64,
    "expression_encoder_depth": 2,
    "expression_decoder_dim": 256,
    "set_transformer_depth": 2,
}
"""Small enough for two processor cores; the defaults of :class:`petri_scvi.PETRI` are meant for a GPU."""

N_CONTEXTS, N_CELLS = 8, 8
"""Documents per minibatch, and cells per document and modality."""

N_SCORED = 500
"""Validation cells of each modality whose reconstruction is scored."""

N_HIGHLIGHTED = 6
"""Number of perturbations with their own colour in the UMAP."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demo.

    Parameters
    ----------
    arguments
        Command line; that of the process if ``None``.
    """
    parser = argparse.ArgumentParser(prog="python -m petri_scvi.demo", description=__doc__)
    parser.add_argument("--data", choices=["synthetic", "real"], default="synthetic", help="which screen to train on")
    parser.add_argument("--out", type=Path, default=Path("petri_demo"), help="folder for the results")
    parser.add_argument("--steps", type=int, default=3000, help="training steps, rounded to whole epochs")
    parser.add_argument("--cells", type=int, default=8000, help="image cells of the synthetic screen")
    options = parser.parse_args(arguments)
    options.out = options.out.expanduser()
    # Figures are written to files, so no window is needed.
    matplotlib.use("Agg")
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    mdata = (
        datasets.semisynthetic_screen() if options.data == "real" else datasets.synthetic_screen(n_cells=options.cells)
    )
    print(f"{options.data} screen: {mdata['image'].n_obs} image cells, {mdata['rna'].n_obs} transcriptomes")
    model = train(mdata, options.steps)
    mdata.obsm[EMBEDDING_KEY] = model.get_latent_representation()

    scored = {name: rows[:N_SCORED] for name, rows in model.validation_indices.items()}
    error = model.get_reconstruction_error(indices=scored)
    gain = model.cross_modal_gain(indices=scored)
    draw_training(model, options.out / "loss_curves.png")
    draw_crops(model, mdata, options.out / "reconstructed_crops.png")
    draw_expression(model, mdata, options.out / "reconstructed_expression.png")
    draw_umap(mdata, options.out / "umap.png")
    write_explorer(mdata, options.out / "explorer.html")
    model.save(str(options.out / "model"), overwrite=True)
    with columns_stay_in_modalities():
        mdata.write_h5mu(options.out / "screen.h5mu")
    summary = summarise(mdata, model, error, gain, time.perf_counter() - start)
    (options.out / "summary.txt").write_text(summary)
    print(f"\n{summary}\nWritten to {options.out}/:", *sorted(path.name for path in options.out.iterdir()), sep="\n  ")


def train(mdata: MuData, n_steps: int) -> PETRI:
    """Train a small model.

    Parameters
    ----------
    mdata
        A screen of :mod:`petri_scvi.datasets`.
    n_steps
        Minibatches to train on, rounded to whole passes over the cells.

    Returns
    -------
    The trained model.
    """
    scvi.settings.seed = 0
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, **MODEL)
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
    )
    _save(ax.figure, path)


def draw_expression(model: PETRI, mdata: MuData, path: Path) -> None:
    """Masked genes of validation cells: observed against reconstructed mean in each perturbation."""
    rna = mdata["rna"][model.validation_indices["rna"]]
    reconstructed = model.get_reconstruction(modality="rna", indices=model.validation_indices["rna"])
    ax = pl.reconstructed_expression(
        rna.X, reconstructed.prediction, reconstructed.mask, groups=rna.obs["perturbation"]
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


def write_explorer(mdata: MuData, path: Path) -> None:
    """A page to look at cells, perturbations and scores."""
    truth = mdata.uns.get("synthetic_screen", {})
    edges = truth.get("edges")
    tl.perturbation_strength(mdata, EMBEDDING_KEY, n_permutations=199, progress=False)
    tl.score_screen(mdata, [EMBEDDING_KEY], edges=edges, n_bootstrap=50, progress=False)
    pages.explorer(mdata, path=path, edges=edges, title="petri-scvi demo", progress=False)


def summarise(mdata: MuData, model: PETRI, error: pd.DataFrame, gain: pd.DataFrame, n_seconds: float) -> str:
    """Summary of the model and its reconstruction error, as text."""
    columns = [
        "modality",
        "source",
        "n_cells",
        "n_contexts",
        "loss_own",
        "loss_other",
        "gain",
        "effect_size",
        "share_of_cells",
        "p_value",
    ]
    last = {name: f"{losses.iloc[-1, 0]:.4f}" for name, losses in sorted(model.history.items())}
    return "\n".join(
        [
            f"petri-scvi {petri_scvi.__version__}, torch {torch.__version__}, scvi-tools {scvi.__version__}",
            f"cells: {mdata['image'].n_obs} images, {mdata['rna'].n_obs} transcriptomes; "
            f"embedding {mdata.obsm[EMBEDDING_KEY].shape}",
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


def _palette(n_colours: int) -> list[str]:
    return ["#000000", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2"][:n_colours]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    main()
