"""The guide model infers which guides worked, with uncertainty."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from petri_scvi import tl
from petri_scvi.tl.guides._guide_statistics import read_statistics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

N_GENES, N_DIMS = 8, 10
DEAD = ["G0_0", "G3_1"]


def screen(seed: int = 0, *, is_shared: bool = True) -> tuple[AnnData, np.ndarray]:
    """Profiles of guides in replicates, with missing ones, and the effects of genes."""
    rng = np.random.default_rng(seed)
    effects = {"image": 2 * rng.normal(size=(N_GENES, N_DIMS))}
    effects["rna"] = effects["image"] if is_shared else 2 * rng.normal(size=(N_GENES, N_DIMS))
    obs, layers = [], {"image": [], "rna": []}  # type: ignore[var-annotated]
    guides = [(f"G{g}", f"G{g}_{j}", g) for g in range(N_GENES) for j in range(1 if g == 7 else 3)]
    for target, guide, g in guides + [("non-targeting", f"nt{k}", -1) for k in range(6)]:
        efficacy = 0.0 if guide in DEAD or g < 0 else rng.uniform(0.6, 1)
        for name, modality in (("i1", "image"), ("i2", "image"), ("r1", "rna")):
            if guide == "G1_0" and modality == "rna":
                continue
            n = int(rng.integers(20, 200))
            obs.append({"guide": guide, "target_gene": target, "replicate": name, "n_cells": n})
            obs[-1] |= {f"n_cells_{m}": n if m == modality else 0 for m in layers}
            of_gene = efficacy * effects[modality][g] + 0.1 * rng.normal(size=N_DIMS)
            profile = of_gene + 5 + 3 / np.sqrt(n) * rng.normal(size=N_DIMS)
            for m in layers:
                layers[m].append(profile if m == modality else np.full(N_DIMS, np.nan))
    frame = pd.DataFrame(obs, index=[f"row{i}" for i in range(len(obs))])
    stacked = {name: np.array(values) for name, values in layers.items()}
    return AnnData(X=np.nanmean(list(stacked.values()), axis=0), obs=frame, layers=stacked), effects["image"]


@pytest.fixture(scope="module")
def fitted() -> tuple[AnnData, np.ndarray]:
    pytest.importorskip("numpyro")
    profiles, effects = screen()
    return tl.guide_model(profiles, method="svi", n_draws=300, progress=False), effects


def result_of(genes: AnnData) -> dict[str, Any]:
    found: dict[str, Any] = genes.uns["petri_scvi"]["guide_model"]
    return found


@pytest.mark.slow
def test_dead_guides_are_found_and_the_others_are_not_called_dead(fitted: tuple[AnnData, np.ndarray]) -> None:
    table = result_of(fitted[0])["guides"].set_index("guide")
    assert set(table.index[table["p_dead"] > 0.5]) == set(DEAD)
    assert (table.loc[DEAD, "log10_bayes_factor"] > 1).all()
    assert (table["efficacy_low"] < table["efficacy"]).all()
    assert (table["efficacy"] < table["efficacy_high"]).all()


@pytest.mark.slow
def test_profiles_point_where_the_genes_do_and_a_dead_guide_does_not_shorten_them(
    fitted: tuple[AnnData, np.ndarray],
) -> None:
    genes, effects = fitted
    found = np.asarray(genes.layers["effect"])
    cosine = (found * effects).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(effects, axis=1)
    assert cosine.min() > 0.97
    length = np.linalg.norm(found, axis=1) / np.linalg.norm(effects, axis=1)
    assert length[[0, 3]].min() > 0.75 * length[[1, 2]].mean()


@pytest.mark.slow
def test_profiles_lie_where_those_of_cells_do_and_effects_start_at_the_control(
    fitted: tuple[AnnData, np.ndarray],
) -> None:
    """Controls of the screen lie at 5 in every dimension."""
    genes, effects = fitted
    origin = np.asarray(genes.X) - genes.layers["effect"]
    np.testing.assert_allclose(origin, np.broadcast_to(origin[0], origin.shape))
    np.testing.assert_allclose(origin[0], 5, atol=0.5)
    assert np.abs(np.asarray(genes.X) - 5 - effects).mean() < np.abs(effects).mean() / 2


@pytest.mark.slow
def test_cosines_have_intervals_around_them_and_probabilities(fitted: tuple[AnnData, np.ndarray]) -> None:
    genes, effects = fitted
    unit = effects / np.linalg.norm(effects, axis=1, keepdims=True)
    pairs = np.triu_indices(N_GENES, k=1)
    mean, low, high, p = (genes.obsp[k][pairs] for k in ("cosine", "cosine_low", "cosine_high", "p_similar"))
    assert ((low <= mean) & (mean <= high)).all()
    assert np.abs(mean - (unit @ unit.T)[pairs]).max() < 0.15
    assert (p[low > 0.5] > 0.94).all()
    assert (p[high < 0.5] < 0.06).all()
    np.testing.assert_array_equal(genes.obsp["cosine"], genes.obsp["cosine"].T)


@pytest.mark.slow
def test_what_is_shared_is_told_from_what_is_not(fitted: tuple[AnnData, np.ndarray]) -> None:
    profiles, _ = screen(is_shared=False)
    apart = result_of(tl.guide_model(profiles, method="svi", n_draws=300, progress=False))
    together = result_of(fitted[0])
    assert together["variance"]["shared_fraction"].min() > 0.9
    assert together["pairs"]["correlation_low"].item() > 0.9
    assert apart["variance"]["shared_fraction"].max() < 0.2
    assert apart["pairs"]["correlation_low"].item() < 0.1
    assert apart["pairs"]["bits_high"].item() < together["pairs"]["bits_low"].item() / 4


@pytest.mark.slow
def test_other_tools_take_the_profiles_and_all_survives_a_file(
    fitted: tuple[AnnData, np.ndarray], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    genes = fitted[0].copy()
    tl.profile_similarity(genes)
    tl.edge_recall(genes, pd.DataFrame({"a": ["G0", "G2"], "b": ["G1", "G3"]}), similarity_key="cosine", control=None)
    genes.write_h5ad(tmp_path / "genes.h5ad")
    read = anndata.read_h5ad(tmp_path / "genes.h5ad")
    assert_same(result_of(read), result_of(genes))
    for slot in ("obsp", "varm", "layers"):
        assert set(getattr(read, slot)) == set(getattr(genes, slot))
        for name, values in getattr(genes, slot).items():
            np.testing.assert_array_equal(getattr(read, slot)[name], values)
    assert set(genes.layers) == {"effect", "image", "rna", "shared"}
    assert list(genes.varm["guide_model"].columns) == ["shared", "image", "rna"]


@pytest.mark.slow
def test_nuts_mixes_and_agrees_with_the_fit(fitted: tuple[AnnData, np.ndarray]) -> None:
    """Warnings are errors: this screen gives none."""
    profiles, _ = screen()
    result = result_of(tl.guide_model(profiles, n_draws=600, seed=1, progress=False))
    assert set(result["diagnostics"]["parameter"]) >= {"strength", "off_target", "noise", "efficacy", "shared"}
    assert result["diagnostics"]["r_hat"].max() < 1.05, result["diagnostics"]
    assert result["n_divergent"] == 0
    found = result["guides"].set_index("guide")["efficacy"]
    np.testing.assert_allclose(found, result_of(fitted[0])["guides"].set_index("guide")["efficacy"], atol=0.1)


def test_replicates_keep_the_mean_of_their_cells_and_their_numbers(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata()
    profiles = tl.replicate_profiles(mdata, "X_emb")
    assert profiles.n_obs == 16 * 2
    row = profiles[(profiles.obs["guide"] == "sg3") & (profiles.obs["replicate"] == "r1")]
    image = mdata["image"].obs
    is_in = ((image["guide"] == "sg3") & (image["replicate"] == "r1")).to_numpy()
    expected = mdata.obsm["X_emb"][: len(image)][is_in].mean(axis=0)
    np.testing.assert_allclose(np.asarray(row.layers["image"])[0], expected, rtol=1e-5)
    assert row.obs["n_cells_image"].tolist() == [is_in.sum()]


def test_replicates_shifted_as_a_whole_change_nothing() -> None:
    profiles, _ = screen()
    shifted = profiles.copy()
    shifted.layers["image"] = shifted.layers["image"] + 7.0 * (shifted.obs["replicate"] == "i1").to_numpy()[:, None]
    before, after = (read_statistics(p, "non-targeting") for p in (profiles, shifted))
    np.testing.assert_allclose(after.products, before.products, atol=1e-9)
    np.testing.assert_allclose(after.residual_squares, before.residual_squares, rtol=1e-9)


def test_spaces_that_are_not_shared_are_refused(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata(shared=False)
    with pytest.raises(ValueError, match="separate spaces"):
        tl.replicate_profiles(mdata, "X_emb")
    parts = [tl.replicate_profiles(mdata, "X_emb", modality=name) for name in ("image", "rna")]
    with pytest.raises(TypeError, match="spaces are separate"):
        tl.guide_model(parts)
    with pytest.raises(ValueError, match="late_fusion: their spaces are separate"):
        tl.guide_model(tl.late_fusion(parts, "concatenate"))


def test_errors_say_what_is_missing() -> None:
    profiles, _ = screen()
    with pytest.raises(ValueError, match="control='scramble': no row of .* has 'scramble'"):
        tl.guide_model(profiles, control="scramble")
    with pytest.raises(ValueError, match="more than one profile in the same replicate"):
        tl.guide_model(AnnData(X=profiles.X, obs=profiles.obs.drop(columns="replicate")))
    with pytest.raises(KeyError, match="no 'n_cells'"):
        tl.guide_model(AnnData(X=profiles.X, obs=profiles.obs.drop(columns="n_cells")))
    for bad in ({"dead_below": 1.5}, {"similar_above": 1.0}, {"efficacy_prior": (0.0, 1.0)}, {"method": "map"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            tl.guide_model(profiles, **bad)


@pytest.mark.parametrize("package", ["jax", "numpyro"])
def test_without_the_packages_the_error_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "petri_scvi.tl.guides._guide_inference", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "petri-scvi\[bayes\]"'):
        tl.guide_model(screen()[0])
