"""The Perturb-Multi reader on tiny files of the published layout."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from petri_scvi import PETRI
from petri_scvi.datasets import perturb_multi
from petri_scvi.datasets.cache._registry_public import (
    PERTURB_MULTI_CHANNELS,
    PERTURB_MULTI_CHUNKS,
    PERTURB_MULTI_IMAGES,
    PERTURB_MULTI_RNA,
)
from petri_scvi.datasets.public import _perturb_multi_images
from petri_scvi.datasets.public._perturb_multi import plan_perturb_multi
from tests.kill_process import killed
from tests.tiny_perturb_multi import CELLS, CHUNKS, EMPTY, N_GENES, TARGETS, crop, write_cache, write_tar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that has the transcriptomes, the proteins and two of the tar files."""
    write_cache(tmp_path / "cache", monkeypatch)
    return tmp_path / "cache"


def test_image_and_transcriptome_are_of_the_same_cell(folder: Path) -> None:
    mdata = perturb_multi(["aa", "ab"], cache_dir=folder, progress=False)
    expected = [i for cells in CHUNKS.values() for i in cells if TARGETS[i % 4] is not None and i != EMPTY]
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
    assert plan_perturb_multi(["aa"], None, folder).missing == []
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("n_kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_conversion_that_is_killed_ends_with_the_same_images(folder: Path, n_kills: int) -> None:
    start = time.perf_counter()
    whole = perturb_multi(["ab", "aa"], cache_dir=folder, progress=False)["image"].obsm["single_cell_images"].copy()
    seconds, rng, n_killed, n_done = time.perf_counter() - start, np.random.default_rng(0), 0, 0
    while n_killed < n_kills or n_done == 0:
        for path in (folder / "perturb_multi").glob("*_ab_2_*"):
            path.unlink()
        is_killed = True
        while is_killed:
            is_killed = killed(
                lambda: perturb_multi(["ab", "aa"], cache_dir=folder, progress=False),
                rng.uniform(0, seconds) if n_killed < n_kills else None,
            )
            n_killed += is_killed
        again = perturb_multi(["ab", "aa"], cache_dir=folder, progress=False)
        np.testing.assert_array_equal(again["image"].obsm["single_cell_images"], whole)
        assert (again["image"].obs_names == again["rna"].obs_names).all()
        n_done += 1
    assert n_killed >= n_kills


def test_a_damaged_tar_is_named(folder: Path) -> None:
    path = folder / PERTURB_MULTI_IMAGES["ab"].file_name
    content = bytearray(path.read_bytes())
    content[3000:9000] = bytes(6000)  # inside of a member
    path.write_bytes(content)
    with pytest.raises(ValueError, match="ab.tar is damaged at .*delete it"):
        perturb_multi(["ab"], cache_dir=folder, progress=False)


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


def test_a_plan_lists_what_is_missing(folder: Path) -> None:
    assert plan_perturb_multi(["aa", "ab"], None, folder).missing == []
    (folder / PERTURB_MULTI_RNA.file_name).unlink()
    plan = plan_perturb_multi(["ab", "ac"], None, folder)
    assert [entry.file_name for entry in plan.missing] == [
        PERTURB_MULTI_RNA.file_name, PERTURB_MULTI_IMAGES["ac"].file_name
    ]  # fmt: skip
    assert plan.n_bytes == 14_201_294_683 + PERTURB_MULTI_IMAGES["ac"].n_bytes


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
