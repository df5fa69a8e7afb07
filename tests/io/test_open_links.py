"""A file with links to other files is refused, whatever the kind of link."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata
import h5py
import numpy as np
import pytest

from petri_scvi import io

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData


def link(file: h5py.File, folder: Path) -> None:
    file["obsm/leaves"] = h5py.ExternalLink("other.h5", "secret")


def link_group(file: h5py.File, folder: Path) -> None:
    file["uns/deep"] = h5py.ExternalLink(str(folder / "other.h5"), "/")


def link_by_detour(file: h5py.File, folder: Path) -> None:
    file["varm/aside"] = h5py.ExternalLink("other.h5", "secret")
    file["obsm/leaves"] = h5py.SoftLink("/varm/aside")


def link_to_what_is_not_there(file: h5py.File, folder: Path) -> None:
    file["varm/leaves"] = h5py.ExternalLink("no/other.h5", "secret")


def store_outside(file: h5py.File, folder: Path) -> None:
    file["obsm"].create_dataset("leaves", (40, 2), "u1", external=[(str(folder / "other.bin"), 0, 80)])


def map_outside(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=(40, 2), dtype="f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", shape=(40, 2))
    file["obsm"].create_virtual_dataset("leaves", layout)


WAYS: list[Callable[[h5py.File, Path], None]] = [
    link,
    link_group,
    link_by_detour,
    link_to_what_is_not_there,
    store_outside,
    map_outside,
]


@pytest.fixture
def screen(image: AnnData, tmp_path: Path) -> Path:
    (tmp_path / "other.bin").write_bytes(bytes(range(80)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones((40, 2))
    image.write_h5ad(tmp_path / "screen.h5ad")
    return tmp_path / "screen.h5ad"


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_leads_to_others_is_refused_with_what_it_leads_to(
    way: Callable[[h5py.File, Path], None], screen: Path
) -> None:
    io.open_screen(screen).file.close()
    with h5py.File(screen, "r+") as file:
        way(file, screen.parent)
    with pytest.raises(ValueError, match=r"links to other files: .* -> .*other\.(h5|bin)"):
        io.open_screen(screen)
    with pytest.raises(ValueError, match="links to other files"):
        io.write_training_store(screen, screen.parent / "s.h5ad", progress=False)
    with pytest.raises(ValueError, match="links to other files"):
        io.verify_training_store(screen, progress=False)


@pytest.mark.filterwarnings("ignore:.*without encoding metadata")
def test_the_advised_copy_is_opened(screen: Path) -> None:
    with h5py.File(screen, "r+") as file:
        link(file, screen.parent)
    with pytest.raises(ValueError, match=r"anndata.read_h5ad\('screen.h5ad'\).write\('copy.h5ad'\)"):
        io.open_screen(screen)
    anndata.read_h5ad(screen).write(screen.parent / "copy.h5ad")
    np.testing.assert_array_equal(io.open_screen(screen.parent / "copy.h5ad").obsm["leaves"][:], np.ones((40, 2)))


def test_links_inside_of_the_file_are_followed(mdata: MuData, tmp_path: Path) -> None:
    mdata.write_h5mu(tmp_path / "screen.h5mu")
    with h5py.File(tmp_path / "screen.h5mu", "r+") as file:
        obsm = file["mod/image/obsm"]
        obsm["hard"] = obsm["centre"]
        obsm["soft"] = h5py.SoftLink("/mod/image/obsm/centre")
        layout = h5py.VirtualLayout(shape=(40, 2), dtype="f8")
        layout[:] = h5py.VirtualSource(obsm["centre"])
        obsm.create_virtual_dataset("virtual", layout)
    opened = io.open_screen(tmp_path / "screen.h5mu")["image"]
    for key in ("hard", "soft", "virtual"):
        np.testing.assert_array_equal(opened.obsm[key][:], mdata["image"].obsm["centre"])


def test_a_file_that_contains_itself_is_walked_once(screen: Path) -> None:
    with h5py.File(screen, "r+") as file:
        file["varp/loop"] = file["/"]
        link(file, screen.parent)
    with pytest.raises(ValueError, match="/obsm/leaves -> other.h5"):
        io.open_screen(screen)
