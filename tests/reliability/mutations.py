"""Small screens with something odd about them, and everything that is then done with them.

``mutated(seed)`` makes a screen and changes one or two things in it. ``attempt(mdata, folder)`` registers it, trains a
few steps, embeds, scores and stores it, and tells how far it came. ``python tests/reliability/mutations.py 3000`` runs
many and prints what happened.
"""

from __future__ import annotations

import collections
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

import petri_scvi
from petri_scvi import PETRI, baselines, datasets, io, pp, tl
from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from mudata import MuData

IMAGES = "single_cell_images"
ROOT = Path(petri_scvi.__file__).parent
TINY: dict[str, Any] = {
    "embed_dim": 8,
    "n_heads": 2,
    "n_latent_tokens": 2,
    "patch_size": 4,
    "image_encoder_depth": 1,
    "image_decoder_depth": 1,
    "image_decoder_dim": 8,
    "expression_encoder_depth": 1,
    "expression_decoder_dim": 8,
    "set_transformer_depth": 1,
}
Mutation = "Callable[[MuData, np.random.Generator], object]"


def _some(rng: np.random.Generator, n: int, share: float = 0.1) -> np.ndarray:
    return rng.choice(n, size=max(1, int(share * n)), replace=False)


def _modality(m: MuData, rng: np.random.Generator) -> AnnData:
    return m.mod[str(rng.choice(list(m.mod)))]


def _column(name: str, change: Callable[[pd.Series, np.random.Generator], Any]) -> Callable[..., None]:
    def mutate(m: MuData, rng: np.random.Generator) -> None:
        obs = _modality(m, rng).obs
        obs[name] = change(obs[name], rng)

    return mutate


def _in_every(name: str, change: Callable[[pd.Series, np.random.Generator], Any]) -> Callable[..., None]:
    def mutate(m: MuData, rng: np.random.Generator) -> None:
        for adata in m.mod.values():
            adata.obs[name] = change(adata.obs[name], rng)

    return mutate


def _some_set(value: Any) -> Callable[[pd.Series, np.random.Generator], pd.Series]:
    def change(column: pd.Series, rng: np.random.Generator) -> pd.Series:
        column = column.astype(object)
        column.iloc[_some(rng, len(column))] = value
        return column

    return change


def _counts(change: Callable[[np.ndarray, np.random.Generator], Any]) -> Callable[..., None]:
    def mutate(m: MuData, rng: np.random.Generator) -> None:
        m["rna"].X = change(m["rna"].X.toarray().copy(), rng)

    return mutate


def _pixels(change: Callable[[np.ndarray, np.random.Generator], Any]) -> Callable[..., None]:
    def mutate(m: MuData, rng: np.random.Generator) -> None:
        m["image"].obsm[IMAGES] = change(np.asarray(m["image"].obsm[IMAGES]).copy(), rng)

    return mutate


def _entry(value: float, dtype: Any = np.float64) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    def change(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x = x.astype(dtype)
        x[tuple(rng.integers(n) for n in x.shape)] = value
        return x

    return change


def _replace(m: MuData, name: str, adata: AnnData) -> None:
    m.mod[name] = adata
    with columns_stay_in_modalities():
        m.update()


def _rows(choose: Callable[[AnnData, np.random.Generator], Any], *, update: bool = True) -> Callable[..., None]:
    def mutate(m: MuData, rng: np.random.Generator) -> None:
        name = str(rng.choice(list(m.mod)))
        adata = m.mod[name][choose(m.mod[name], rng)].copy()
        if update:
            _replace(m, name, adata)
        else:
            m.mod[name] = adata

    return mutate


def _rename_cells(names: Callable[[AnnData, np.random.Generator], Any]) -> Callable[..., None]:
    def mutate(m: MuData, rng: np.random.Generator) -> None:
        name = str(rng.choice(list(m.mod)))
        adata = m.mod[name].copy()
        adata.obs_names = names(adata, rng)
        _replace(m, name, adata)

    return mutate


def _rename_modality(new: str) -> Callable[..., Any]:
    def mutate(m: MuData, rng: np.random.Generator) -> MuData:
        old = str(rng.choice(list(m.mod)))
        return pp.build_mudata(**{new if name == old else name: adata.copy() for name, adata in m.mod.items()})

    return mutate


def _rename_genes(change: Callable[[list[str]], list[str]]) -> Callable[..., None]:
    def mutate(m: MuData, rng: np.random.Generator) -> None:
        adata = m["rna"].copy()
        adata.var_names = change(list(adata.var_names))
        _replace(m, "rna", adata)

    return mutate


def _one_label(label: str) -> Callable[[pd.Series, np.random.Generator], pd.Series]:
    def change(column: pd.Series, rng: np.random.Generator) -> pd.Series:
        labels = column.astype(str)
        victim = rng.choice(labels.unique())
        return labels.where(labels != victim, label).astype("category")

    return change


MUTATIONS: dict[str, Callable[..., Any]] = {
    "missing contexts": _column("perturbation", _some_set(None)),
    "NaN contexts": _column("perturbation", _some_set(np.nan)),
    "the word nan": _in_every("perturbation", _some_set("nan")),
    "empty labels": _in_every("perturbation", _some_set("")),
    "numbers among labels": _in_every("perturbation", _some_set(7)),
    "integer contexts": _in_every("perturbation", lambda c, rng: c.astype("category").cat.codes),
    "float contexts": _in_every("perturbation", lambda c, rng: c.astype("category").cat.codes.astype(float)),
    "flags as contexts": _in_every("perturbation", lambda c, rng: c == c.iloc[0]),
    "one context": _in_every("perturbation", lambda c, rng: "A"),
    "one context per cell": _column("perturbation", lambda c, rng: [f"c{i}" for i in range(len(c))]),
    "unused categories": _in_every("perturbation", lambda c, rng: c.astype("category").cat.add_categories(["unused"])),
    "dates as contexts": _column("perturbation", lambda c, rng: pd.Timestamp("2020-01-01")),
    "tuples as contexts": _column("perturbation", lambda c, rng: [("a", i % 3) for i in range(len(c))]),
    "labels with separators": _in_every("perturbation", _one_label("a | b")),
    "labels with plus": _in_every("perturbation", _one_label("a+b")),
    "labels with markup": _in_every("perturbation", _one_label("[/]<b>$\\frac{$")),
    "labels with slashes": _in_every("perturbation", _one_label("../x/y")),
    "labels with line breaks": _in_every("perturbation", _one_label("a\nb\0c")),
    "labels of other spelling": _column("perturbation", lambda c, rng: c.astype(str).str.lower()),
    "no context column": lambda m, rng: _modality(m, rng).obs.drop(columns="perturbation", inplace=True),
    "missing guides": _column("guide", _some_set(None)),
    "no guide column": lambda m, rng: _modality(m, rng).obs.drop(columns="guide", inplace=True),
    "missing targets": _column("target_gene", _some_set(np.nan)),
    "no controls": _in_every("target_gene", lambda c, rng: c.astype(str).replace("non-targeting", "TARGET01")),
    "only controls": _in_every("target_gene", lambda c, rng: "non-targeting"),
    "one guide per target": _in_every("guide", lambda c, rng: "same"),
    "missing replicates": _column("replicate", _some_set(None)),
    "one replicate": _in_every("replicate", lambda c, rng: "r"),
    "replicates as numbers": _in_every("replicate", lambda c, rng: np.arange(len(c)) % 2),
    "a replicate per cell": _column("replicate", lambda c, rng: [f"r{i}" for i in range(len(c))]),
    "column named modality": lambda m, rng: _modality(m, rng).obs.insert(0, "modality", "x"),
    "column named source": lambda m, rng: _modality(m, rng).obs.insert(0, "source", "x"),
    "column of lists": lambda m, rng: m["rna"].obs.insert(0, "lists", [[1]] * m["rna"].n_obs),
    "column with a slash": lambda m, rng: _modality(m, rng).obs.insert(0, "a/b", 1),
    "negative count": _counts(_entry(-1)),
    "NaN count": _counts(_entry(np.nan)),
    "infinite count": _counts(_entry(np.inf)),
    "count too large for float32": _counts(_entry(1e39)),
    "count too large for exact float32": _counts(_entry(2.0**25 + 1)),
    "half a count": _counts(_entry(0.5)),
    "integer counts": _counts(lambda x, rng: x.astype(np.int64)),
    "unsigned counts": _counts(lambda x, rng: x.astype(np.uint8)),
    "float64 counts": _counts(lambda x, rng: x.astype(np.float64)),
    "float16 counts": _counts(lambda x, rng: x.astype(np.float16)),
    "boolean counts": _counts(lambda x, rng: x > 0),
    "complex counts": _counts(lambda x, rng: x.astype(complex)),
    "object counts": _counts(lambda x, rng: x.astype(object)),
    "CSC counts": _counts(lambda x, rng: sparse.csc_matrix(x)),
    "COO counts": _counts(lambda x, rng: sparse.csr_array(x)),
    "stored zeros": _counts(lambda x, rng: sparse.csr_matrix(x) + sparse.csr_matrix(np.ones_like(x)) * 0),
    "empty cells": _counts(lambda x, rng: np.where(np.arange(len(x))[:, None] == rng.integers(len(x)), 0, x)),
    "empty genes": _counts(lambda x, rng: x * (np.arange(x.shape[1]) > 3)),
    "all counts zero": _counts(lambda x, rng: x * 0),
    "log-normalised": _counts(lambda x, rng: np.log1p(x)),
    "equal cells": _counts(lambda x, rng: np.repeat(x[:1], len(x), axis=0)),
    "no X": lambda m, rng: setattr(m["rna"], "X", None),
    "duplicate genes": _rename_genes(lambda names: [names[0], *names[:-1]]),
    "genes with odd names": _rename_genes(lambda names: ["a/b", "[x]", "$\\frac{$", *names[3:]]),
    "one gene": lambda m, rng: _replace(m, "rna", m["rna"][:, :1].copy()),
    "NaN pixel": _pixels(_entry(np.nan, np.float32)),
    "infinite pixel": _pixels(_entry(np.inf, np.float32)),
    "pixel too large for float32": _pixels(_entry(1e39)),
    "negative pixels": _pixels(lambda x, rng: x.astype(np.float32) - x.mean()),
    "float64 pixels": _pixels(lambda x, rng: x.astype(np.float64)),
    "float16 pixels": _pixels(lambda x, rng: (x / 65535).astype(np.float16)),
    "boolean pixels": _pixels(lambda x, rng: x > x.mean()),
    "8-bit pixels": _pixels(lambda x, rng: (x // 256).astype(np.uint8)),
    "signed pixels": _pixels(lambda x, rng: x.astype(np.int32)),
    "object pixels": _pixels(lambda x, rng: x.astype(object)),
    "complex pixels": _pixels(lambda x, rng: x.astype(complex)),
    "black images": _pixels(lambda x, rng: x * 0),
    "a blank channel": _pixels(lambda x, rng: x * (np.arange(x.shape[1]) != 1)[:, None, None].astype(x.dtype)),
    "channels last": _pixels(lambda x, rng: np.moveaxis(x, 1, -1).copy()),
    "no channel axis": _pixels(lambda x, rng: x[:, 0]),
    "odd size": _pixels(lambda x, rng: x[..., :7, :]),
    "one pixel": _pixels(lambda x, rng: x[..., :1, :1]),
    "no channels": _pixels(lambda x, rng: x[:, :0]),
    "strided pixels": _pixels(lambda x, rng: np.repeat(x, 2, axis=-1)[..., ::2]),
    "big-endian pixels": _pixels(lambda x, rng: x.astype(">u2")),
    "no images": lambda m, rng: m["image"].obsm.pop(IMAGES),
    "wrong channel names": lambda m, rng: m["image"].uns.__setitem__("channel_names", ["a", "a"]),
    "one cell": _rows(lambda a, rng: [0]),
    "two cells": _rows(lambda a, rng: [0, 1]),
    "no cells": _rows(lambda a, rng: []),
    "reordered": _rows(lambda a, rng: rng.permutation(a.n_obs)),
    "reordered without update": _rows(lambda a, rng: rng.permutation(a.n_obs), update=False),
    "a subset without update": _rows(lambda a, rng: np.sort(_some(rng, a.n_obs, 0.5)), update=False),
    "one context left": _rows(lambda a, rng: (a.obs["perturbation"] == a.obs["perturbation"].iloc[0]).to_numpy()),
    "cell names twice": _rename_cells(lambda a, rng: [a.obs_names[0], *a.obs_names[:-1]]),
    "integer cell names": _rename_cells(lambda a, rng: [str(i) for i in range(a.n_obs)]),
    "empty cell name": _rename_cells(lambda a, rng: ["", *a.obs_names[1:]]),
    "odd cell names": _rename_cells(lambda a, rng: ["a/b", "é", "[/]", *a.obs_names[3:]]),
    "names of the other modality": lambda m, rng: _shared_names(m),
    "modality named with a slash": _rename_modality("a/b"),
    "modality named all": _rename_modality("all"),
    "modality named both": _rename_modality("both"),
    "modality named with plus": _rename_modality("image+rna"),
    "modality with markup": _rename_modality("[/]$x$"),
    "one modality": lambda m, rng: pp.build_mudata(**{n: a.copy() for n, a in [list(m.mod.items())[rng.integers(2)]]}),
    "a third modality": lambda m, rng: _third(m),
    "a view": lambda m, rng: m[np.sort(_some(rng, m.n_obs, 0.8))],
    "an AnnData": lambda m, rng: m["rna"].copy(),
    "nothing": lambda m, rng: None,
}


def _shared_names(m: MuData) -> None:
    n = min(a.n_obs for a in m.mod.values())
    for name in list(m.mod):
        adata = m.mod[name][:n].copy()
        adata.obs_names = [f"cell{i}" for i in range(n)]
        m.mod[name] = adata
    with columns_stay_in_modalities():
        m.update()


def _third(m: MuData) -> Any:
    other = m["rna"].copy()
    other.obs_names = [f"third{i}" for i in range(other.n_obs)]
    return pp.build_mudata(**{name: adata.copy() for name, adata in m.mod.items()}, protein=other)


def screen(seed: int) -> MuData:
    """A screen of 120 cells in each modality."""
    return datasets.synthetic_screen(seed % 7, n_cells=120, n_pathways=2, n_control_guides=2, n_genes=16, image_size=8)


def mutated(seed: int) -> tuple[Any, list[str]]:
    """A screen with one or two mutations, and their names."""
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.choice(list(MUTATIONS), size=rng.integers(1, 3), replace=False)]
    found: Any = screen(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with columns_stay_in_modalities():
            for name in names:
                try:
                    replaced = MUTATIONS[name](found, rng)
                except Exception:  # noqa: BLE001 - what anndata or an earlier mutation forbids is no mutation
                    continue
                if hasattr(replaced, "mod") or type(replaced).__name__ == "AnnData":
                    found = replaced
    return found, names


def _train(mdata: Any) -> Any:
    model = PETRI(mdata, **TINY)
    model.train(
        max_epochs=1,
        max_steps=2,
        accelerator="cpu",
        enable_progress_bar=False,
        n_contexts_per_minibatch=2,
        n_cells_per_context=2,
        logger=False,
    )
    return model


def _embed(model: Any, mdata: Any) -> dict[str, np.ndarray]:
    found = {name: model.get_latent_representation(modality=name) for name in model.get_var_names()}
    for name, embedding in found.items():
        assert np.isfinite(embedding).all(), "SILENT: the embedding is not finite"
        assert len(embedding) == mdata.mod[name].n_obs, "SILENT: the embedding has other rows"
    return found


def _score(mdata: Any) -> None:
    tl.center_scale(mdata, "X_petri")
    tl.whiten(mdata, "X_petri_scaled")
    table = tl.score_screen(mdata, ["X_petri"], n_bootstrap=0, progress=False, edges=None)
    assert table["value"].notna().all(), "SILENT: a score is NaN"


def steps(mdata: Any, folder: Path) -> list[tuple[str, Callable[[], Any]]]:
    """What is done, in order; each step needs those before it that it uses."""
    state: dict[str, Any] = {}

    def setup() -> None:
        PETRI.setup_mudata(mdata)

    def train() -> None:
        state["model"] = _train(mdata)

    def embed() -> None:
        for name, embedding in _embed(state["model"], mdata).items():
            mdata.mod[name].obsm["X_alone"] = embedding
        mdata.obsm["X_petri"] = state["model"].get_latent_representation()

    def errors() -> None:
        table = state["model"].get_reconstruction_error()
        assert np.isfinite(table["loss"]).all(), "SILENT: a loss is not finite"

    def baseline() -> None:
        baselines.PCAExpression.setup_mudata(mdata)
        pca = baselines.PCAExpression(mdata, n_components=2)
        pca.train()
        assert np.isfinite(pca.get_latent_representation()).all(), "SILENT: the components are not finite"

    def profiles() -> None:
        found = tl.aggregate_profiles(mdata, "X_petri")
        assert np.isfinite(found.X).any(axis=1).all(), "SILENT: a profile is NaN"

    def store() -> None:
        io.write_training_store(mdata, folder / "store.h5mu", progress=False)
        io.verify_training_store(folder / "store.h5mu", progress=False)

    def save() -> None:
        state["model"].save(folder / "model")
        PETRI.load(folder / "model", mdata)

    return [
        ("setup", setup), ("train", train), ("embed", embed), ("errors", errors), ("save", save),
        ("profiles", profiles), ("score", lambda: _score(mdata)), ("baseline", baseline), ("store", store),
    ]  # fmt: skip


NEEDS = {
    "train": ["setup"], "embed": ["train"], "errors": ["train"], "save": ["train"], "profiles": ["embed"],
    "score": ["embed"], "baseline": [], "store": [],
}  # fmt: skip
ACCEPTED = (ValueError, KeyError, TypeError, FileExistsError, FloatingPointError, NotImplementedError)


def attempt(mdata: Any, folder: Path) -> dict[str, str]:
    """``"done"``, ``"refused"`` or ``"skipped"`` for each step; else what went wrong."""
    outcome: dict[str, str] = {}
    for name, call in steps(mdata, folder):
        if any(outcome.get(needed) != "done" for needed in NEEDS.get(name, [])):
            outcome[name] = "skipped"
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call()
            outcome[name] = "done"
        except Exception as error:  # noqa: BLE001 - what is raised is what is looked at
            outcome[name] = _judge(error)
    return outcome


def _judge(error: Exception) -> str:
    """``"refused"`` if the error is one of ours: raised by our code, of an accepted kind, with words."""
    frames = traceback.extract_tb(error.__traceback__)
    is_ours = Path(frames[-1].filename).is_relative_to(ROOT)
    if isinstance(error, ACCEPTED) and is_ours and len(str(error)) > 20:
        return "refused"
    place = next((f for f in reversed(frames) if Path(f.filename).is_relative_to(ROOT)), frames[-1])
    return f"{type(error).__name__}: {str(error)[:160]!r} in {Path(place.filename).name}:{place.lineno} {place.name}"


def campaign(seeds: range) -> tuple[collections.Counter[tuple[str, str]], dict[str, list[str]]]:
    """Counts of outcomes by step, and what went wrong with the mutations that it happened with."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    wrong: dict[str, list[str]] = collections.defaultdict(list)
    for seed in seeds:
        mdata, names = mutated(seed)
        folder = Path(tempfile.mkdtemp())
        try:
            for step, outcome in attempt(mdata, folder).items():
                is_known = outcome in ("done", "refused", "skipped")
                counts[step, outcome if is_known else "wrong"] += 1
                if not is_known:
                    wrong[f"{step}: {outcome}"].append(f"{seed} {names}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return counts, dict(wrong)


if __name__ == "__main__":
    import logging

    import torch

    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    first, last = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (0, int(sys.argv[1]))
    counts, wrong = campaign(range(first, last))
    for (step, outcome), n in sorted(counts.items()):
        print(f"{step:10s} {outcome:8s} {n}")
    for what, seeds in sorted(wrong.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):5d} {what}\n      {'; '.join(seeds[:3])}")
