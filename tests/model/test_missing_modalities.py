"""Modalities that are missing at inference, for some contexts, or from a whole plate."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi import PETRI, tl
from petri_scvi.modalities import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

KINDS: dict[str, Any] = {
    "image": "images",
    "rna": "counts",
    "protein": "peaks",
    "profile": Kind("features", obsm="true_morphology"),
}
QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def make_four(make_screen: Callable[..., MuData], combine: Callable[..., MuData]) -> Callable[..., MuData]:
    """Four modalities of different cells, some of them left out by ``keep``, which gets their name and ``obs``."""

    def make(keep: Callable[[str, Any], Any] = lambda name, obs: np.ones(len(obs), bool), seed: int = 0) -> MuData:
        mdata = make_screen(n_cells=400, n_pathways=3, n_control_guides=3, n_proteins=8, seed=seed)
        profile = mdata["image"].copy()
        profile.obs_names = "profile_" + profile.obs_names
        del profile.obsm["single_cell_images"]
        found = {}
        for name, adata in {**mdata.mod, "profile": profile}.items():
            is_kept = np.asarray(keep(name, adata.obs))
            if is_kept.any():
                found[name] = adata[is_kept].copy()
        four = combine(**found)
        four.uns = mdata.uns
        return four

    return make


@pytest.fixture(scope="module")
def model(make_four: Any, tiny: dict[str, Any]) -> PETRI:
    """A model of all four after an epoch; shared, so tests must not change it."""
    mdata = make_four()
    PETRI.setup_mudata(mdata, modalities=KINDS)
    model = PETRI(mdata, **tiny)
    model.train(max_epochs=1, **QUIET)
    return model


@pytest.mark.parametrize("names", [("protein",), ("image", "profile"), ("rna", "protein", "profile")])
def test_data_without_some_modalities_is_embedded_and_reconstructed(
    model: PETRI, make_four: Any, names: tuple[str, ...]
) -> None:
    part = make_four(lambda name, obs: np.full(len(obs), name in names))
    assert set(part.mod) == set(names)
    embedding = model.get_latent_representation(part)
    complete = model.get_latent_representation()
    np.testing.assert_allclose(embedding, complete[model.adata.obs_names.get_indexer(part.obs_names)], atol=1e-5)
    for name in names:
        some: dict[str, Any] = {"modality": name, "indices": list(range(40))}
        assert np.isfinite(model.get_latent_representation(part, position="set_transformer", **some)).all()
        assert np.isfinite(model.get_reconstruction(part, **some).prediction).all()
    gain = model.cross_modal_gain(part, n_documents=1, indices={name: range(40) for name in names})
    assert set(gain["modality"]) == set(names)
    absent = next(name for name in KINDS if name not in names)
    with pytest.raises(ValueError, match="of which the data has"):
        model.get_latent_representation(part, modality=absent)


@pytest.mark.parametrize("lacking", ["plate", pytest.param("contexts", marks=pytest.mark.slow)])
def test_a_plate_or_contexts_without_a_modality_train_embed_and_score(
    make_four: Any, tiny: dict[str, Any], lacking: str
) -> None:
    def keep(name: str, obs: Any) -> Any:
        if lacking == "plate":
            plate = sorted(obs["replicate"].unique())[0] if name in ("rna", "protein") else None
            return obs["replicate"] != plate
        unseen = {"rna": ["TARGET01", "TARGET02"], "profile": ["TARGET03"]}.get(name, [])
        return ~obs["perturbation"].isin(unseen)

    mdata = make_four(keep)
    PETRI.setup_mudata(mdata, modalities=KINDS)
    model = PETRI(mdata, **tiny)
    model.train(max_epochs=2, train_size=0.7, **QUIET)
    for name in KINDS:
        assert np.isfinite(model.history[f"train_loss_{name}"].to_numpy(dtype=float)).all()
    mdata.obsm["X_petri"] = model.get_latent_representation()
    assert np.isfinite(mdata.obsm["X_petri"]).all()
    some = {name: range(40) for name in KINDS}
    assert np.isfinite(model.cross_modal_gain(n_documents=1, indices=some)["gain"]).all()
    edges = mdata.uns["synthetic_screen"]["edges"]
    one_sided = pytest.warns(UserWarning, match="guides have cells in some modalities only")
    with one_sided if lacking == "contexts" else nullcontext():
        scores = tl.score_screen(mdata, ["X_petri"], edges=edges, n_bootstrap=0, progress=False)
    assert set(scores["modality"]) == {*KINDS, "image+rna+protein+profile"}
    # A new plate on which one modality was measured is embedded by the same model.
    new = make_four(lambda name, obs: np.full(len(obs), name == "rna"), seed=1)
    assert len(model.get_latent_representation(new)) == new.n_obs
