"""What the page is told about perturbations, dimensions and scores."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from petri_scvi import pages, tl
from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

STEP = 1 / 127


def write(data: AnnData | MuData, path: Path, **changes: Any) -> Path:
    return pages.explorer(data, path=path / "explorer.html", genes=[], progress=False, **changes)


def vectors(page: Any, space: dict[str, Any]) -> Any:
    codes = page.array(space["vectors"], "i1").reshape(-1, space["d"]).astype(float)
    return codes / np.linalg.norm(codes, axis=1, keepdims=True)


def test_profiles_are_those_of_the_protocol(
    make_mapped: Callable[..., MuData], read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    mdata = make_mapped()
    edges = mdata.uns["synthetic_screen"]["edges"]
    page = read_page(write(mdata, tmp_path, edges=edges))
    meta = page.meta["profiles"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        tl.center_scale(mdata, "X_petri")
        tl.whiten(mdata, "X_petri_scaled")
        genes = tl.aggregate_profiles(mdata, level="gene")
    assert meta["names"] == list(genes.obs_names)
    assert [space["name"] for space in meta["spaces"]] == ["fused", "image", "rna"]
    for space, layer in zip(meta["spaces"], (None, "image", "rna"), strict=True):
        tl.profile_similarity(genes, layer=layer)
        found = vectors(page, space)
        np.testing.assert_allclose(found @ found.T, genes.obsp["similarity"], atol=2 * STEP)
    pairs = {frozenset(meta["names"][i] for i in pair) for pair in meta["edges"]}
    assert pairs == {frozenset(pair) for pair in edges[["entity1", "entity2"]].to_numpy()}
    assert meta["n_cells"]["image"] == genes.obs["n_cells_image"].tolist()
    assert len(meta["guides"]) == mdata["image"].obs["guide"].nunique()
    assert any("do not vary among the controls" in note for note in meta["notes"])


def test_efficacy_of_guides_is_that_of_the_guide_model(
    mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    guide = str(mapped["image"].obs["guide"].iloc[0])
    table = pd.DataFrame(
        {"guide": [guide], "efficacy": [0.1], "efficacy_low": [0.0], "efficacy_high": [0.3], "p_dead": [0.9]}
    )
    effects = AnnData(np.zeros((1, 1)), uns={"petri_scvi": {"guide_model": {"guides": table}}})
    page = read_page(write(mapped, tmp_path, guide_model=effects))
    dead = [row for row in page.meta["profiles"]["guides"] if row.get("p_dead") is not None]
    assert [(row["name"], row["p_dead"], row["efficacy"]) for row in dead] == [(guide, 0.9, 0.1)]
    with pytest.raises(KeyError, match="Pass what petri_scvi.tl.guide_model returned"):
        write(mapped, tmp_path, guide_model=AnnData(np.zeros((1, 1))))


def test_a_replicate_without_controls_is_said_on_the_page(
    make_mapped: Callable[..., MuData], read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    mdata = make_mapped()
    for part in mdata.mod.values():
        is_control = (part.obs["perturbation"] == "non-targeting").to_numpy()
        part.obs["plate"] = np.where(is_control, "a", "b")
    page = read_page(write(mdata, tmp_path, replicate_key="plate"))
    assert page.meta["profiles"]["notes"][0].startswith("Profiles are scaled on all controls together")


def test_guides_that_are_numbered_anew_are_told_apart(
    make_mapped: Callable[..., MuData], read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    mdata = make_mapped()
    for part in mdata.mod.values():
        part.obs["guide"] = part.obs["guide"].astype(str).str.rsplit("_").str[-1]
    names = [row["name"] for row in read_page(write(mdata, tmp_path)).meta["profiles"]["guides"]]
    assert "TARGET02 | g1" in names
    assert len(set(names)) == len(names)


def test_one_modality_has_one_space(mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path) -> None:
    with columns_stay_in_modalities():
        image = mapped["image"].copy()
    image.obsm["X_petri"] = mapped.obsm["X_petri"][: image.n_obs]
    image.obsm["X_umap"] = mapped.obsm["X_umap"][: image.n_obs]
    page = read_page(write(image, tmp_path))
    assert [space["name"] for space in page.meta["profiles"]["spaces"]] == ["cells"]
    assert "perturbations" in page.meta["views"]


def test_dimensions_colour_cells_and_examples_have_crops(
    described: MuData, mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    described.obsm["X_petri"] = np.random.default_rng(0).normal(size=(described.n_obs, 4))
    described.obsm["X_umap"] = described.obsm["X_petri"][:, :2]
    page = read_page(write(described, tmp_path, max_megabytes=0.52))
    shown = page.values("dim:0")
    expected = described.obsm["X_sae"][:, 0].toarray().ravel()
    assert np.corrcoef(shown, expected)[0, 1] > 0.9999
    cards = page.words(page.meta["dimensions"]["cards"])
    assert [card["number"] for card in cards] == [i for i in range(9) if i != 7]
    names = described["image"].obs_names
    most = described.uns["petri_scvi"]["dimension_activity_X_sae"]["most"][0]
    assert [names[cell] for cell in cards[0]["most"]] == list(most)
    crops = page.meta["crops"]
    assert crops["n"] < crops["total"]
    kept = set(page.array(crops["cells"], "u4").tolist())
    assert {cell for card in cards for end in ("most", "least") for cell in card[end]} <= kept
    strongest = page.words(page.meta["dimensions"]["strongest"])
    truth = described.uns["synthetic_screen"]
    pathway = truth["perturbations"].set_index("perturbation")["pathway"]
    visible = truth["programs"].query("visibility == 'shared'")["pathway"].tolist()
    for name, found in strongest.items():
        if pathway.get(name) in visible:
            assert found[0][0] == list(truth["programs"]["pathway"]).index(pathway[name])
