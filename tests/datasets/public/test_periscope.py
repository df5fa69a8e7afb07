"""The PERISCOPE reader on tiny files of the layout that the authors' notebook reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from petri_scvi.common import _files
from petri_scvi.datasets import periscope
from petri_scvi.datasets.public import _periscope

if TYPE_CHECKING:
    from pathlib import Path

tifffile = pytest.importorskip("tifffile")
SIZE = 64
CONTROL_GUIDES = _periscope.PERISCOPE_CONTROL_GUIDES
GUIDES = {"ATP6V1A": ["AAAA", "AAAC"], "WDR1": ["CCCC"], "nontargeting": list(CONTROL_GUIDES)}
FIELD = {
    channel: np.random.default_rng(i).integers(1, 60000, (SIZE, SIZE), dtype=np.uint16)
    for i, channel in enumerate(_periscope.PERISCOPE_CHANNELS)
}
"""Rows of cells: plate, well, site, number, x, y."""
CELLS = {
    "AAAA": [("CP257A", "Well1", 12, 5, 20.4, 30.6), ("CP257J", "Well1", 12, 1, 9.0, 9.0)],
    "AAAC": [("CP257A", "Well1", 12, 6, 3.0, 40.0), ("CP257B", "Well2", 3, 2, 30.0, 31.0)],
    "CCCC": [("CP257A", "Well1", 12, 7, np.nan, 40.0), ("CP257A", "Well1", 12, 8, 63.2, 63.0)],
    CONTROL_GUIDES[0]: [("CP257A", "Well1", 12, 9, 33.0, 34.0), ("CP257D", "Well3", 4, 1, 1.0, 1.0)],
}


@pytest.fixture
def folder(tmp_path: Path, user_cache: Path) -> Path:
    """A cache with the library, the tables of the guides, and fields of two sites."""
    library = [(gene, guide) for gene, guides in GUIDES.items() for guide in guides]
    (tmp_path / "periscope").mkdir()
    pd.DataFrame(library, columns=["gene_symbol", "sgRNA"]).to_csv(tmp_path / "periscope" / "Barcodes.csv")
    for gene, guides in GUIDES.items():
        for guide in guides:
            if guide in CELLS:
                path = tmp_path / _periscope._table_entry("HeLa", "20210422_6W_CP257", guide, gene).file_name
                path.parent.mkdir(parents=True, exist_ok=True)
                table = pd.DataFrame(CELLS[guide], columns=[_periscope.PLATE, _periscope.WELL, _periscope.SITE,
                                                            _periscope.CELL, _periscope.X, _periscope.Y])  # fmt: skip
                table.assign(Cells_AreaShape_Area=1.5).to_csv(path, index=False)
    for site in (("CP257A", "Well1", "12"), ("CP257B", "Well2", "3")):
        for channel, field in FIELD.items():
            path = tmp_path / _periscope._field_entry("20210422_6W_CP257", *site, channel).file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, field)
    return tmp_path


def read(folder: Path, **changes: Any) -> Any:
    arguments: dict[str, Any] = {"n_control_guides": 1, "image_size": 16, "max_sites": 1, **changes}
    return periscope(["ATP6V1A", "WDR1"], cache_dir=folder, **arguments)


def test_crops_are_centred_on_the_cells_of_the_fullest_field(folder: Path) -> None:
    image = read(folder)
    assert image.obs_names.tolist() == [f"CP257A_Well1_12_{i}" for i in (5, 6, 8, 9)]
    crops = image.obsm["single_cell_images"]
    assert crops.shape == (4, 5, 16, 16)
    assert crops.dtype == np.uint16
    for crop, (x, y) in zip(crops, [(20, 31), (3, 40), (63, 63), (33, 34)], strict=True):
        assert crop[:, 8, 8].tolist() == [field[y, x] for field in FIELD.values()]
    assert image.obs["is_border"].tolist() == [False, True, True, False]
    assert image.uns["channel_names"] == ["DNA", "ER", "Mito", "Phalloidin", "WGA"]


def test_columns_have_the_names_and_the_control_of_all_screens(folder: Path) -> None:
    obs = read(folder).obs
    assert obs["perturbation"].tolist() == ["ATP6V1A", "ATP6V1A", "WDR1", "non-targeting"]
    assert obs["guide"].tolist() == ["AAAA", "AAAC", "CCCC", CONTROL_GUIDES[0]]
    assert set(obs["batch"]) == {"CP257A"}
    assert set(obs["well"]) == {"CP257A_Well1"}


def test_more_sites_give_more_cells_of_the_same_medium_only(folder: Path) -> None:
    image = read(folder, max_sites=2)
    assert set(image.obs["batch"]) == {"CP257A", "CP257B"}
    assert len(image) == 5


def test_the_room_for_all_fields_is_checked_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "free_space", lambda _: 10**6)
    with pytest.raises(OSError, match="The download needs 302.50 MB"):
        read(folder, max_sites=3)  # the third site is not there


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"screen": "hela"}, "'hela_dmem', 'hela_hplm', 'a549'"),
        ({"max_sites": 0}, "max_sites=0"),
        ({"n_control_guides": 11}, "from 0 to 10"),
        ({"image_size": 2.5}, "image_size=2.5"),
    ],
)
def test_a_bad_argument_is_named(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(folder, **arguments)


def test_a_gene_that_is_not_in_the_library_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"\['Wdr1'\], which the library does not target"):
        periscope(["Wdr1"], cache_dir=folder)
