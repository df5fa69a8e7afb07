from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from petri_scvi.datasets import olfactory_bulb
from petri_scvi.datasets.cache._registry_public import OLFACTORY_BULB_ARCHIVE, OLFACTORY_BULB_FILES
from petri_scvi.datasets.public import _olfactory_bulb

if TYPE_CHECKING:
    from pathlib import Path

GENES = ["ENSMUSG01.1", "ENSMUSG02.2", "ENSMUSG03.1"]
PITCH = 12
SIDE = 10 * PITCH


def tiny_files() -> dict[str, bytes]:
    """Four sections of 8 x 8 positions; counts and colour of a spot name it: its first gene is x, its second y."""
    files = {}
    for number, section in enumerate(_olfactory_bulb.SECTIONS):
        at = [(x, y) for x in range(1, 9) for y in range(1, 9) if (x + y) % 2 == 0]
        counts = pd.DataFrame([(x, y, number) for x, y in at], columns=GENES, index=[f"{x}x{y}" for x, y in at])
        files[f"{section}.tsv"] = counts.to_csv(sep="\t").encode()
        table = pd.DataFrame(at, columns=["x", "y"])
        table = table.assign(new_x=table.x, new_y=table.y, pixel_x=table.x * PITCH + 0.2, pixel_y=table.y * PITCH - 0.3)
        table["selected"] = (table["x"] < 8).astype(int)
        files[f"alignment_table_{section}.tsv"] = table.to_csv(sep="\t", index=False).encode()
        across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
        field = np.stack([2 * across, 2 * down, np.full_like(down, 60 * number)], axis=2).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(field).save(stream, format="JPEG", quality=98, subsampling=0)
        files[f"{section}.jpg"] = stream.getvalue()
    return files


@pytest.fixture
def cache(tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with single files of the same layout."""
    files = tiny_files()
    folder = tmp_path / "cache"
    (folder / "olfactory_bulb").mkdir(parents=True)
    entries = {}
    for name, content in files.items():
        entries[name] = dataclasses.replace(
            OLFACTORY_BULB_FILES[name], sha256=hashlib.sha256(content).hexdigest(), n_bytes=len(content)
        )
        (folder / entries[name].file_name).write_bytes(content)
    monkeypatch.setattr(_olfactory_bulb, "OLFACTORY_BULB_FILES", entries)
    return folder


def test_no_spot_is_in_both_modalities_and_every_block_is(cache: Path) -> None:
    mdata = olfactory_bulb(cache, image_size=8, block_size=4)
    image, rna = mdata["image"].obs, mdata["rna"].obs
    assert (image["x"] % 2 == 0).all()
    assert (rna["x"] % 2 == 1).all()
    assert not set(image["true_spot"]) & set(rna["true_spot"])
    assert set(image["perturbation"]) == set(rna["perturbation"]) == set(image["block"])
    assert {block[:4] for block in image["block"]} == set(_olfactory_bulb.SECTIONS)
    assert image["x"].max() < 8  # positions that are not under the tissue are left out
    assert not {"is_control", "guide"} & set(image.columns)


def test_hidden_halves_are_those_of_the_same_spots(cache: Path) -> None:
    shown = olfactory_bulb(cache, image_size=8, block_size=4)
    other = olfactory_bulb(cache, image_size=8, block_size=4, hidden=True)
    assert shown["image"].obs["true_spot"].tolist() == other["rna"].obs["true_spot"].tolist()
    assert shown["rna"].obs["true_spot"].tolist() == other["image"].obs["true_spot"].tolist()
    counts = other["rna"].X.toarray()
    assert counts[:, :2].tolist() == shown["image"].obs[["x", "y"]].to_numpy().tolist()
    assert other["rna"].var_names.tolist() == GENES


def test_a_crop_is_centred_on_its_spot_and_has_the_colours_of_its_section(cache: Path) -> None:
    image = olfactory_bulb(cache, image_size=8, block_size=4)["image"]
    middle = image.obsm["single_cell_images"][:, :, 4, 4].astype(float)
    expected = np.stack([2 * PITCH * image.obs["x"], 2 * PITCH * image.obs["y"]], axis=1)
    np.testing.assert_allclose(middle[:, :2], expected, atol=6)
    number = image.obs["section"].astype(str).str[-1].astype(int) - 1
    np.testing.assert_allclose(middle[:, 2], 60 * number, atol=6)
    assert list(image.uns["channel_names"]) == ["red", "green", "blue"]


def test_the_archive_gives_what_the_single_files_give(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = olfactory_bulb(cache, image_size=8)
    folder = tmp_path / "archive"
    folder.mkdir()
    path = folder / OLFACTORY_BULB_ARCHIVE.file_name
    with tarfile.open(path, "w:xz") as archive:
        for name, content in tiny_files().items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    entry = dataclasses.replace(OLFACTORY_BULB_ARCHIVE, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(_olfactory_bulb, "OLFACTORY_BULB_ARCHIVE", entry)
    archived = olfactory_bulb(folder, image_size=8)
    np.testing.assert_array_equal(
        archived["image"].obsm["single_cell_images"], single["image"].obsm["single_cell_images"]
    )
    pd.testing.assert_frame_equal(archived["rna"].obs, single["rna"].obs)


def test_a_bad_argument_is_named_and_blocks_that_are_too_small_are_refused(cache: Path) -> None:
    for arguments in ({"image_size": 4}, {"block_size": 1}, {"min_spots": 0}, {"block_size": 2.5}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            olfactory_bulb(cache, **arguments)
    with pytest.raises(ValueError, match=r"block_size=2 has min_spots=9 .* pass a larger block_size"):
        olfactory_bulb(cache, image_size=8, block_size=2, min_spots=9)
    assert olfactory_bulb(cache, image_size=8, block_size=8, min_spots=9).n_obs > 0


def test_addresses_are_pinned_to_a_commit_and_every_file_has_a_checksum() -> None:
    assert len(OLFACTORY_BULB_FILES) == 12
    for entry in OLFACTORY_BULB_FILES.values():
        assert entry.url is not None
        assert len(entry.url.split("/")[5]) == 40
        assert entry.sha256 is not None


@pytest.mark.real
def test_the_real_tissue_has_the_spots_it_should() -> None:
    mdata = olfactory_bulb()
    assert (mdata["image"].n_obs, mdata["rna"].n_obs) == (798, 796)
    assert mdata["rna"].n_vars == 1000
    assert mdata["image"].obs["block"].nunique() == 110
    assert mdata["rna"].X.sum(axis=1).min() > 700
    assert len(mdata.uns["olfactory_bulb"]["spots"]) == 798 + 796
