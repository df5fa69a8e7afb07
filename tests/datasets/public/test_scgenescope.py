"""The reader of scGeneScope on tiny files of the published layout."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from benchmarks._tiny_scgenescope import N_GENES, SIZE, TREATMENTS, write_files, write_plate
from petri_scvi import PETRI
from petri_scvi.datasets import scgenescope
from petri_scvi.datasets.cache._registry_public import SCGENESCOPE, SCGENESCOPE_PLATES, SCGENESCOPE_ZIPS

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

    from .conftest import Server

PLATE = "MIC1227_CP_Batch1_Plate1A_1"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has all tables; do not modify."""
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder


def read(folder: Path, *args: Any, **arguments: Any) -> MuData:
    return scgenescope(*args, cache_dir=folder, progress=False, **arguments)


def test_features_and_latents_are_those_of_the_chosen_replicates(files: Path, user_cache: Path) -> None:
    import anndata

    mdata = read(files, [3, 1], max_cells=None)
    obs = mdata["image"].obs
    assert obs["replicate"].value_counts().to_dict() == {"3": 120, "1": 120}
    assert set(zip(obs["round"], obs["split"], strict=True)) == {(1, "train"), (2, "test_other_round")}
    assert set(obs["perturbation"]) == {*TREATMENTS, "non-targeting"}
    assert obs["is_control"].sum() == 16
    source = anndata.read_h5ad(files / SCGENESCOPE["vit-l"][1].file_name)
    first = source[source.obs["Replicate"] == "3"]
    np.testing.assert_array_equal(mdata["image"].X[:120], first.X)
    assert list(mdata["image"].obs_names[:2]) == [f"image_1_{name}" for name in first.obs_names[:2]]
    latents = anndata.read_h5ad(files / SCGENESCOPE["scvi"][2].file_name)
    expected = latents[latents.obs["Replicate"] == "1"].obsm["scvi_n200"]
    np.testing.assert_array_equal(mdata["rna"].X[120:], expected)


def test_it_trains_with_the_kinds_that_it_names(files: Path, user_cache: Path) -> None:
    mdata = read(files, [3], max_cells=3)
    assert mdata["rna"].obs["perturbation"].value_counts().max() == 3
    PETRI.setup_mudata(mdata, modalities=mdata.uns["scgenescope"]["kinds"])
    model = PETRI(mdata, embed_dim=16, n_heads=2, expression_encoder_depth=1, set_transformer_depth=1)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert np.isfinite(model.get_latent_representation()).all()


def test_cells_are_drawn_and_genes_and_treatments_chosen(files: Path, user_cache: Path) -> None:
    some = {"treatments": TREATMENTS[:2], "expression": "log", "max_cells": 2}
    mdata = read(files, [4, 5], genes=["GENE3", "GENE1"], **some)
    assert isinstance(mdata["rna"].X, sparse.csr_matrix)
    assert list(mdata["rna"].var_names) == ["GENE3", "GENE1"]
    assert mdata["rna"].n_obs == mdata["image"].n_obs == 2 * 2 * 3
    assert mdata.uns["scgenescope"]["kinds"] == {"image": "features", "rna": "continuous"}
    again = read(files, [4, 5], **some)
    assert list(again.obs_names) == list(mdata.obs_names)
    assert again["rna"].n_vars == N_GENES
    assert list(read(files, [4, 5], seed=1, **some).obs_names) != list(mdata.obs_names)


def test_crops_are_read_from_the_zip_file_of_a_plate(
    tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tifffile")
    write_files(tmp_path, n_cells=2)
    here = write_plate(tmp_path, PLATE, replicate=3)
    other = here.assign(**{name: here[name].str.replace("1A_1", "1A_2") for name in here if name.startswith("path")})
    manifest = tmp_path / SCGENESCOPE["manifest"][1].file_name
    # Only the table itself is replaced: what reads it, PyTables, need not be installed.
    pd.DataFrame({"a": [1]}).to_csv(manifest)
    monkeypatch.setattr("petri_scvi.datasets.cache._verify.why_incomplete", lambda *_: "")
    monkeypatch.setattr(pd, "read_hdf", lambda path, key: pd.concat([other.add_prefix("", axis=0), here]).reset_index())
    mdata = read(tmp_path, [3], images="crops", plates=[PLATE], max_cells=1)
    crops = mdata["image"].obsm["single_cell_images"]
    assert crops.shape == (29, 5, SIZE, SIZE)
    assert crops.dtype == np.uint8
    rows = mdata["image"].obs_names.str.removeprefix("image_1_").astype(int) - len(other)
    np.testing.assert_array_equal(crops[:, 0, 0, 0], rows)
    np.testing.assert_array_equal(crops[:, 4, 3, 3], rows + 40)
    treatment = here["Treatment"].astype(str).replace("DMSO", "non-targeting").to_numpy()[rows]
    assert mdata["image"].obs["perturbation"].tolist() == treatment.tolist()
    assert mdata.uns["scgenescope"]["kinds"] == {"image": "images", "rna": "features"}

    lost = here.assign(**{"path-ER": here["path-ER"].str.replace("B03", "C04")})
    monkeypatch.setattr(pd, "read_hdf", lambda path, key: lost)
    with pytest.raises(KeyError, match=r"plate.zip has no C04/cell.*such as \['B03/cell0_AGP.tiff'"):
        read(tmp_path, [3], images="crops", plates=[PLATE])


def test_a_manifest_of_pandas_and_pytables_is_read(tmp_path: Path, user_cache: Path) -> None:
    pytest.importorskip("tables")
    pytest.importorskip("tifffile")
    write_files(tmp_path, n_cells=2)
    table = write_plate(tmp_path, PLATE, replicate=3)
    table.assign(Treatment=table["Treatment"].astype(str)).to_hdf(
        tmp_path / SCGENESCOPE["manifest"][1].file_name, key="manifest"
    )
    assert read(tmp_path, [3], images="crops", plates=[PLATE], max_cells=1)["image"].n_obs == 29


def test_nothing_is_downloaded_unasked_and_the_error_has_sizes_license_and_token(
    tmp_path: Path, user_cache: Path
) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        read(tmp_path, [1, 2])
    said = str(raised.value)
    for part in ("13,589,664,651 bytes", "CC-BY-NC", "HF_TOKEN", "download=True", "may not be used commercially"):
        assert part in said
    with pytest.raises(FileNotFoundError, match=r"2 files|3 files.*plate.zip"):
        read(tmp_path, [3], images="crops", plates=[PLATE])


def test_a_token_is_asked_for_sent_and_a_refusal_explained(
    tmp_path: Path, user_cache: Path, server: Server, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("petri_scvi.datasets.cache._download.BLOCK_BYTES", 2**20)
    for what in ("vit-l", "scvi"):
        entry = SCGENESCOPE[what][2]
        server.files[what] = (files / entry.file_name).read_bytes()
        changed = dataclasses.replace(entry, url=server.url(what), n_bytes=len(server.files[what]))
        monkeypatch.setitem(SCGENESCOPE[what], 2, changed)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(PermissionError, match="CC-BY-NC.*only sent to users with a token.*HF_TOKEN"):
        read(tmp_path, [1], download=True)
    assert not server.requests
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.status = 403
    with pytest.raises(PermissionError, match=r"refused the token in HF_TOKEN \(403 Forbidden\)") as refused:
        read(tmp_path, [1], download=True)
    assert "hf_secret" not in str(refused.value)
    server.status = None
    assert read(tmp_path, [1], download=True)["image"].n_obs == 120
    assert server.authorizations[-1] == "Bearer hf_secret"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"replicates": [6]}, "different numbers from 1 to 5"),
        ({"replicates": 3}, "different numbers from 1 to 5"),
        ({"images": "vit-h"}, r"\['vit-l', 'crops'\]"),
        ({"expression": "counts"}, r"\['scvi', 'log'\]"),
        ({"images": "crops"}, "plates belongs to images='crops'.*about 7 GB each.*240110_PA_Plate5_CP"),
        ({"images": "crops", "plates": [PLATE]}, "plates of these replicates: .*240110_PA_Plate5_CP"),
        ({"genes": ["TP53"]}, "genes of expression='log'"),
        ({"treatments": ["Aspirin"]}, r"\['Aspirin'\] is not accepted; pass a list of \['compound 00'"),
        ({"genes": ["TP53"], "expression": "log"}, r"\['TP53'\], not measured; names are such as \['GENE0'"),
        ({"max_cells": 0}, "at least 1"),
    ],
)
def test_a_bad_argument_is_named(files: Path, user_cache: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(files, **arguments)


def test_a_file_of_another_layout_is_refused(tmp_path: Path, user_cache: Path) -> None:
    import anndata

    write_files(tmp_path, n_cells=1)
    path = tmp_path / SCGENESCOPE["scvi"][1].file_name
    part = anndata.read_h5ad(path)
    part.obsm["other"] = part.obsm.pop("scvi_n200")
    part.write_h5ad(path)
    with pytest.raises(KeyError, match="no obsm/scvi_n200; it has .*obsm/other"):
        read(tmp_path, [3])


def test_the_plates_are_the_26_of_the_authors_script() -> None:
    rounds = [number for number, _ in SCGENESCOPE_PLATES.values()]
    assert (rounds.count(1), rounds.count(2)) == (16, 10)
    assert (SCGENESCOPE_ZIPS[PLATE].url or "").endswith(f"measured/imaging/uint8/round_1/batch1/{PLATE}/plate.zip")
