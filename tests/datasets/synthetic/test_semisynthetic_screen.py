from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pooch
import pytest
from scipy import sparse

from petri_scvi.datasets import semisynthetic_screen
from petri_scvi.datasets.cache._registry import EXAMPLE_SBS_ARCHIVE, PAPALEXI, Entry
from petri_scvi.datasets.public import _example_sbs, _papalexi
from petri_scvi.datasets.public._example_sbs import crop_cells, read_nuclei, segment_nuclei
from petri_scvi.datasets.public._papalexi import call_guides, read_transcriptomes
from petri_scvi.datasets.synthetic._semisynthetic_screen import CONDITION_OF_TARGET, assign_guides

if TYPE_CHECKING:
    from mudata import MuData

INTERFERON = ["IFNGR1", "IFNGR2", "JAK2", "STAT1"]


def field(centres: list[tuple[int, int]], size: int = 64, radius: int = 6) -> np.ndarray:
    """Bright discs on a dark field."""
    y, x = np.mgrid[:size, :size]
    is_inside = np.any([np.hypot(y - cy, x - cx) <= radius for cy, cx in centres], axis=0)
    return np.where(is_inside, 200, 10).astype(np.uint8)


def test_a_guide_is_called_from_five_counts_and_more_than_four_fifths() -> None:
    counts = sparse.csr_matrix([[0, 5, 0], [4, 0, 0], [8, 2, 0], [0, 2, 9], [0, 0, 0]])
    assert call_guides(counts).tolist() == [1, -1, -1, 2, -1]


def test_nuclei_are_found_where_they_are() -> None:
    dna = field([(20, 30), (45, 12)])
    dna[60, 60] = 200  # a speck of dirt
    found = segment_nuclei(dna, min_nucleus_area=60)
    assert found[["y", "x"]].to_numpy().tolist() == [[20, 30], [45, 12]]
    assert found["nucleus_area"].between(100, 130).all()


@pytest.mark.parametrize("image_size", [16, 17])
def test_a_crop_is_centred_and_zero_outside_the_field(image_size: int) -> None:
    fields = np.arange(1, 2 * 40 * 50 + 1, dtype=np.uint16).reshape(2, 40, 50)
    y, x = np.array([20, 2, 20]), np.array([25, 25, 49])
    crops, is_border = crop_cells(fields, y, x, image_size)
    assert crops.shape == (3, 2, image_size, image_size)
    assert is_border.tolist() == [False, True, True]
    middle = image_size // 2
    np.testing.assert_array_equal(crops[:, :, middle, middle], fields[:, y, x].T)
    np.testing.assert_array_equal((crops == 0).any(axis=(1, 2, 3)), is_border)


def test_every_guide_of_a_target_gets_cells_of_its_own_condition_only() -> None:
    conditions = sorted(set(CONDITION_OF_TARGET.values())) + [("drug_1", 0), ("drug_2", 0), ("drug_2", 9)]
    rows = {"drug_1": "ABCD", "drug_2": "EFGH"}
    table = pd.DataFrame(
        [(row, drug, dose) for drug, dose in conditions for row in rows[drug] for _ in range(60)],
        columns=["row", "drug", "dose"],
    )
    targets = [*CONDITION_OF_TARGET, "non-targeting"]
    guides = pd.DataFrame([(t, f"{t}_g{k}") for t in targets for k in range(4)], columns=["target_gene", "guide"])
    guide = pd.Series(assign_guides(table, guides, np.random.default_rng(0)))
    assert set(guide) == set(guides["guide"]) | {""}
    target = guide.str.rsplit("_g", n=1).str[0]
    assert (guide[(table["drug"] == "drug_2") & (table["dose"] == 9)] == "").all()
    assert (target[table["dose"] == 0] == "non-targeting").all()
    for name, (drug, dose) in CONDITION_OF_TARGET.items():
        cells = table[target == name]
        assert set(zip(cells["drug"], cells["dose"], strict=True)) == {(drug, dose)}
    assert table.groupby(guide)["row"].nunique().drop("").ge(2).all()  # no guide is alone with one row


def test_the_image_folder_is_read_from_an_archive_in_a_read_only_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    files = {"1049_Metadata.csv": b"ImageNumber,Column,Row,SBS_Doses,SBS_Controls\n1,01,A,0,-1\n2,12,H,7,0\n"}
    for name, centres in (("01-A-01", [(20, 30)]), ("02-H-12", [(30, 30), (50, 10)])):
        for channel in (1, 2):
            stream = io.BytesIO()
            tifffile.imwrite(stream, field(centres) // channel)
            files[f"Channel{channel}-{name}.tif"] = stream.getvalue()
    path = tmp_path / EXAMPLE_SBS_ARCHIVE.file_name
    with tarfile.open(path, "w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"tests/core/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(_example_sbs, "EXAMPLE_SBS_ARCHIVE", Entry(path.name, None, sha256, 0, ""))
    monkeypatch.setattr(_example_sbs, "EXAMPLE_SBS_FILES", dict.fromkeys(files))

    nuclei = read_nuclei(tmp_path, image_size=16, min_nucleus_area=60)
    assert nuclei.images.shape == (3, 2, 16, 16)
    assert nuclei.images[:, :, 8, 8].tolist() == [[200, 100]] * 3  # GFP first, then DNA
    assert nuclei.table["well"].tolist() == ["A01", "H12", "H12"]
    assert nuclei.table["drug"].tolist() == ["drug_1", "drug_2", "drug_2"]
    assert nuclei.table["dose"].tolist() == [0, 7, 7]
    assert os.listdir(tmp_path) == [path.name]


def test_transcriptomes_keep_the_called_cells_and_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {
        "response_matrix": (sparse.csr_matrix(np.arange(8, dtype=np.float32).reshape(4, 2)), np.array(["FN1", "JAK2"])),
        "grna_matrix": (sparse.csr_matrix([[9, 0], [2, 2], [0, 7], [6, 0]]), np.array(["JAK2g1", "NTg1"])),
        "grna_target_data_frame": pd.DataFrame(
            {"grna_id": ["JAK2g1", "NTg1"], "grna_target": ["JAK2", "non-targeting"]}
        ),
        "extra_covariates": pd.DataFrame({"bio_rep": ["rep_1", "rep_1", "rep_2", "rep_1"]}),
    }
    path = tmp_path / PAPALEXI.file_name
    path.write_bytes(b"")
    monkeypatch.setattr(_papalexi, "PAPALEXI", Entry(path.name, None, hashlib.sha256(b"").hexdigest(), 0, ""))
    monkeypatch.setattr(_papalexi, "_read_rda", lambda _: raw)
    rna = read_transcriptomes(tmp_path)
    assert rna.X.toarray().tolist() == [[0, 1], [4, 5], [6, 7]]
    assert rna.obs["perturbation"].tolist() == ["JAK2", "non-targeting", "JAK2"]
    assert rna.obs["is_control"].tolist() == [False, True, False]
    assert rna.obs["replicate"].tolist() == ["rna_rep_1", "rna_rep_2", "rna_rep_1"]


def test_a_sparse_matrix_of_r_becomes_cells_by_genes(monkeypatch: pytest.MonkeyPatch) -> None:
    """R stores genes x cells as triplets; the reader is replaced, the conversion is ours."""

    def read_rda(_: Path, constructor_dict: dict) -> dict:
        triplets = SimpleNamespace(
            i=np.array([0, 1, 1]), j=np.array([0, 0, 2]), x=np.array([3.0, 1.0, 2.0]), Dim=np.array([2, 3]),
            Dimnames=[np.array(["FN1", "JAK2"]), None],
        )  # fmt: skip
        return {"lowmoi_example_data": {"response_matrix": constructor_dict["dgTMatrix"](triplets, {})}}

    reader = SimpleNamespace(read_rda=read_rda, conversion=SimpleNamespace(DEFAULT_CLASS_MAP={}))
    monkeypatch.setattr(_papalexi, "require", lambda *_: reader)
    counts, names = _papalexi._read_rda(Path("any.rda"))["response_matrix"]
    assert counts.toarray().tolist() == [[3, 1], [0, 0], [0, 2]]
    assert names.tolist() == ["FN1", "JAK2"]


@pytest.mark.parametrize("arguments", [{"image_size": 4}, {"image_size": 32.0}, {"min_nucleus_area": 0}])
def test_a_bad_argument_is_named(arguments: dict) -> None:
    (name,) = arguments
    with pytest.raises(ValueError, match=name):
        semisynthetic_screen(**arguments)


@pytest.fixture(scope="module")
def screen() -> MuData:
    folder = Path(os.environ.get("PETRI_SCVI_CACHE") or pooch.os_cache("petri_scvi"))
    needed = [folder / PAPALEXI.file_name, folder / EXAMPLE_SBS_ARCHIVE.file_name]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        pytest.skip(f"not there: {missing}; set PETRI_SCVI_CACHE to the folder that has them")
    return semisynthetic_screen(folder)


@pytest.mark.real
def test_the_real_screen_follows_the_schema(screen: MuData) -> None:
    image, rna = screen["image"], screen["rna"]
    assert image.X is None
    assert image.obsm["single_cell_images"].shape == (image.n_obs, 2, 32, 32)
    assert image.obsm["single_cell_images"].dtype == np.uint8
    assert 12_000 < image.n_obs < 13_500
    assert rna.shape == (16_093, 299)
    assert rna.obs["guide"].nunique() == 106
    assert isinstance(rna.X, sparse.csr_matrix)
    assert (rna.X.data == np.rint(rna.X.data)).all()
    assert screen.obs_names.is_unique
    assert screen.obs.shape[1] == 0
    for column in ("perturbation", "guide"):
        assert set(image.obs[column].cat.categories) == set(rna.obs[column].cat.categories)
    assert set(image.obs["perturbation"]) == {*CONDITION_OF_TARGET, "non-targeting"}
    for modality in (image, rna):
        assert (modality.obs["is_control"] == (modality.obs["perturbation"] == "non-targeting")).all()
        assert modality.obs.groupby("replicate", observed=False)["is_control"].sum().min() > 100
        for column in ("perturbation", "guide", "target_gene", "replicate", "well", "batch"):
            assert isinstance(modality.obs[column].dtype, pd.CategoricalDtype)


@pytest.mark.real
def test_interferon_genes_stand_apart_in_both_modalities(screen: MuData) -> None:
    image, rna = screen["image"], screen["rna"]
    gfp = image.obsm["single_cell_images"][:, 0].astype(float)
    middle = gfp[:, 12:20, 12:20].mean(axis=(1, 2))
    ratio = middle / (gfp.mean(axis=(1, 2)) + 1)  # how much of the GFP is in the nucleus
    by_target = pd.Series(ratio).groupby(image.obs["perturbation"].to_numpy(), observed=True).median()
    assert by_target[INTERFERON].min() > 1.3 * by_target["non-targeting"]

    log = np.log1p(200 * rna.X.toarray() / np.asarray(rna.X.sum(axis=1)))
    means = pd.DataFrame(log).groupby(rna.obs["perturbation"].to_numpy(), observed=True).mean()
    shift = means - means.loc["non-targeting"]
    assert np.corrcoef(shift.loc[INTERFERON])[np.triu_indices(4, k=1)].min() > 0.8
    assert (np.linalg.norm(shift.loc[INTERFERON], axis=1) > 2 * np.linalg.norm(shift.loc["CAV1"])).all()
