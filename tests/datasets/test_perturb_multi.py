"""The Perturb-Multi reader on tiny files of the published layout."""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from petri_scvi import PETRI
from petri_scvi.datasets import _perturb_multi, _perturb_multi_images, perturb_multi
from petri_scvi.datasets._registry_public import (
    PERTURB_MULTI_CHANNELS,
    PERTURB_MULTI_CHUNKS,
    PERTURB_MULTI_IMAGES,
    PERTURB_MULTI_PROTEIN,
    PERTURB_MULTI_RNA,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N_CELLS, N_GENES, SIZE = 48, 6, 8
CELLS = [str(10**38 + 7 * i) for i in range(N_CELLS)]  # as long as the published names
TARGETS = ["control", "Pten", "Mtor", None]


def crop(cell: int) -> np.ndarray:
    return np.random.default_rng(cell).random((18, SIZE, SIZE)).astype(np.float32)


def write_tar(path: Path, crops: dict[str, np.ndarray], key: str = "x") -> None:
    with tarfile.open(path, "w") as archive:
        for cell, values in crops.items():
            stream = io.BytesIO()
            np.savez_compressed(stream, **{key: values})  # type: ignore[arg-type]
            member = tarfile.TarInfo(f"{cell}.npz")
            member.size = stream.tell()
            archive.addfile(member, io.BytesIO(stream.getvalue()))


@pytest.fixture(autouse=True)
def _any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published files are longer than the tiny ones."""
    for name in ("PERTURB_MULTI_RNA", "PERTURB_MULTI_PROTEIN"):
        entry = getattr(_perturb_multi, name)
        monkeypatch.setattr(_perturb_multi, name, dataclasses.replace(entry, is_size_exact=False))


@pytest.fixture
def folder(tmp_path: Path, user_cache: Path) -> Path:
    """A cache that has the transcriptomes, the proteins and two of the tar files."""
    place = tmp_path / "cache"
    (place / "perturb_multi").mkdir(parents=True)
    target = [TARGETS[i % 4] for i in range(N_CELLS)]
    obs = pd.DataFrame(
        {
            "fov": np.arange(N_CELLS),
            "x": np.linspace(-1, 1, N_CELLS),
            "batch": pd.Categorical([str(i // 8 % 3) for i in range(N_CELLS)]),
            "cell_type": pd.Categorical(["Hep"] * N_CELLS),
            "singlet_gene": pd.Categorical(target),
            "singlet_name": pd.Categorical([t and f"{t}_g{i % 2}" for i, t in enumerate(target)]),
        },
        index=pd.Index(CELLS, name="id"),
    )
    counts = np.random.default_rng(0).poisson(2.0, (N_CELLS, N_GENES)).astype(float)
    counts[4] = 0  # a control without any expression
    level = np.log1p(93 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    genes = pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)])
    rna = AnnData(level - level.mean(axis=0), obs=obs, var=genes)  # X is scaled, raw.X is not
    rna.raw = AnnData(level, obs=obs, var=genes)
    rna.write_h5ad(place / PERTURB_MULTI_RNA.file_name)
    names = pd.DataFrame({"cell_name": CELLS[:40]}, index=[str(i) for i in range(40)])
    stains = pd.DataFrame(index=list(PERTURB_MULTI_CHANNELS))
    AnnData(np.arange(40.0)[:, None] * np.ones(18), obs=names, var=stains).write_h5ad(
        place / PERTURB_MULTI_PROTEIN.file_name
    )
    for chunk, cells in (("aa", range(20, 0, -1)), ("ab", range(25, 46))):  # not in the order of the table
        crops = {CELLS[i]: crop(i) for i in cells} | {f"{chunk}_in_no_table": crop(99)}
        write_tar(place / PERTURB_MULTI_IMAGES[chunk].file_name, crops)
    return place


def test_image_and_transcriptome_are_of_the_same_cell(folder: Path) -> None:
    mdata = perturb_multi(["aa", "ab"], cache_dir=folder, progress=False)
    expected = [i for i in (*range(20, 0, -1), *range(25, 46)) if TARGETS[i % 4] is not None and i != 4]
    image, rna = mdata["image"], mdata["rna"]
    assert list(image.obs_names) == list(rna.obs_names) == [CELLS[i] for i in expected]
    assert mdata.n_obs == len(expected)
    images = image.obsm["single_cell_images"]
    assert isinstance(images, np.memmap)
    np.testing.assert_array_equal(images, [np.rint(crop(i).astype(float) * 65535) for i in expected])
    with h5py.File(folder / PERTURB_MULTI_RNA.file_name) as file:
        np.testing.assert_allclose(rna.X.toarray(), file["raw/X"][:][expected], rtol=1e-6)
    assert isinstance(rna.X, sparse.csr_matrix)
    assert list(rna.var_names) == [f"gene{i}" for i in range(N_GENES)]
    assert mdata.uns["perturb_multi"]["n_without_expression"] == 1


def test_columns_have_the_names_and_the_control_of_all_screens(folder: Path) -> None:
    mdata = perturb_multi(cache_dir=folder, progress=False)
    for modality in mdata.mod.values():
        assert set(modality.obs["perturbation"]) == {"non-targeting", "Pten", "Mtor"}
        assert (modality.obs["is_control"] == modality.obs["guide"].str.startswith("control")).all()
        assert {"replicate", "well", "batch", "fov", "x", "cell_type"} <= set(modality.obs)
    protein = mdata["image"].obsm["protein_intensities"]
    assert list(mdata["image"].uns["protein_names"]) == list(PERTURB_MULTI_CHANNELS)
    number = [CELLS.index(name) for name in mdata.obs_names]
    np.testing.assert_array_equal(protein[:, 3], number)


def test_a_cell_that_the_protein_table_lacks_is_nan(folder: Path) -> None:
    image = perturb_multi(["ab"], cache_dir=folder, progress=False)["image"]
    is_missing = np.array([CELLS.index(name) >= 40 for name in image.obs_names])
    np.testing.assert_array_equal(np.isnan(image.obsm["protein_intensities"]).all(axis=1), is_missing)


def test_channels_are_chosen_by_name_and_in_the_order_asked_for(folder: Path) -> None:
    image = perturb_multi(channels=["TOMM20", "Na/K-ATPase", "Alb"], cache_dir=folder, progress=False)["image"]
    first = CELLS.index(image.obs_names[0])
    expected = np.rint(crop(first)[[8, 11, 0]].astype(float) * 65535)
    np.testing.assert_array_equal(image.obsm["single_cell_images"][0], expected)
    assert list(image.uns["channel_names"]) == ["TOMM20", "Na/K-ATPase", "Alb"]


def test_later_calls_need_none_of_the_published_files(folder: Path) -> None:
    first = perturb_multi(cache_dir=folder, progress=False)
    for path in (folder / "perturb_multi").iterdir():
        if path.suffix == ".tar" or "20240615" in path.name:
            path.unlink()
    again = perturb_multi(cache_dir=folder, progress=False)
    np.testing.assert_array_equal(first["image"].obsm["single_cell_images"], again["image"].obsm["single_cell_images"])
    pd.testing.assert_frame_equal(first["rna"].obs, again["rna"].obs)
    assert dict(again.uns["perturb_multi"])["n_without_expression"] == 1


def test_an_interrupted_conversion_goes_on_after_the_last_whole_tar(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = perturb_multi(["aa", "ab"], cache_dir=folder, progress=False)["image"].obsm["single_cell_images"].copy()
    for path in (folder / "perturb_multi").glob("*_aa_2_*"):
        path.unlink()
    read, opened = _perturb_multi_images._read_images, []

    def stops(tar: Path, wanted: dict) -> Iterator[tuple[str, np.ndarray]]:
        opened.append(tar.name[-6:-4])
        for n, found in enumerate(read(tar, wanted)):
            if opened == ["aa", "aa", "ab"] and n == 3:  # the first is for the size of an image
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(_perturb_multi_images, "_read_images", stops)
    with pytest.raises(KeyboardInterrupt):
        perturb_multi(["aa", "ab"], cache_dir=folder, progress=False)
    assert not list((folder / "perturb_multi").glob("*_aa_2_*.h5ad"))
    opened.clear()
    again = perturb_multi(["aa", "ab"], cache_dir=folder, progress=False)
    assert opened == ["ab"]  # the first was not read again
    np.testing.assert_array_equal(again["image"].obsm["single_cell_images"], whole)
    assert not [name for name in os.listdir(folder / "perturb_multi") if "partial" in name]


@pytest.mark.parametrize(
    ("crops", "key", "message"),
    [
        ({CELLS[1]: crop(1)}, "image", "expected 'x'"),
        ({CELLS[1]: crop(1)[:17]}, "x", r"shape \(17, 8, 8\); expected \(18, H, W\)"),
        ({CELLS[1]: crop(1) * 300}, "x", "expected 0 to 1"),
        ({CELLS[1]: crop(1), CELLS[2]: crop(2)[:, 1:]}, "x", r"images before it have uint16, \(18, 8, 8\)"),
        ({CELLS[3]: crop(3)}, "x", "no cell with a guide"),
    ],
)
def test_images_of_another_layout_are_named_and_leave_no_file(
    folder: Path, crops: dict, key: str, message: str
) -> None:
    write_tar(folder / PERTURB_MULTI_IMAGES["ac"].file_name, crops, key)
    with pytest.raises((KeyError, ValueError), match=message):
        perturb_multi(["ac"], cache_dir=folder, progress=False)
    assert not list((folder / "perturb_multi").glob("*_ac_1_*.h5ad"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chunks": ["zz"]}, r"from 'aa' to 'bp'"),
        ({"chunks": "aa"}, r"such as \['aa', 'ab'\]"),
        ({"chunks": ["aa", "aa"]}, "different names"),
        ({"channels": ["tomm20"]}, "Perilipin"),
        ({"channels": []}, "different names"),
    ],
)
def test_a_bad_argument_is_named_before_anything_is_downloaded(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perturb_multi(**arguments)


def test_there_are_as_many_chunks_as_published() -> None:
    assert len(PERTURB_MULTI_CHUNKS) == len(PERTURB_MULTI_IMAGES) == 42
    assert PERTURB_MULTI_CHUNKS[:2] == ("aa", "ab")
    assert len(PERTURB_MULTI_CHANNELS) == 18


def test_petri_trains_on_it_with_squared_errors(folder: Path, tiny: dict) -> None:
    mdata = perturb_multi(["aa", "ab"], channels=["TOMM20", "Alb"], cache_dir=folder, progress=False)
    PETRI.setup_mudata(mdata, is_paired=True)
    model = PETRI(mdata, expression_likelihood="normal", **{**tiny, "patch_size": 4})
    model.train(max_epochs=1, max_steps=2, n_cells_per_context=2, n_contexts_per_minibatch=2)
    assert np.isfinite(model.get_latent_representation(modality="rna")).all()
    with pytest.raises(ValueError, match="expression_likelihood='normal'"):
        PETRI(mdata, **{**tiny, "patch_size": 4})
