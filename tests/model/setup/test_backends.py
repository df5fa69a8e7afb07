"""Results do not depend on where arrays are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import scvi
import torch
from scipy import sparse

from petri_scvi.dataloaders import DocumentDataModule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGES = "single_cell_images"


def _memmap(images: np.ndarray, folder: Path) -> np.memmap:
    mapped = np.memmap(folder / "images.raw", dtype=images.dtype, mode="w+", shape=images.shape)
    mapped[:] = images
    return mapped


def _hdf5(**layout: Any) -> Callable[[np.ndarray, Path], h5py.Dataset]:
    def write(images: np.ndarray, folder: Path) -> h5py.Dataset:
        with h5py.File(folder / "images.h5", "w") as file:
            file.create_dataset("crops", data=images, **layout)
        return h5py.File(folder / "images.h5")["crops"]

    return write


def _zarr(images: np.ndarray, folder: Path) -> Any:
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(folder / "images.zarr", shape=images.shape, chunks=(50, 5, 16, 16), dtype=images.dtype)
    array[:] = images
    return array


def _dask(images: np.ndarray, folder: Path) -> Any:
    return pytest.importorskip("dask.array").from_array(images, chunks=(50, 5, 16, 16))


STORES = {
    "memmap": _memmap,
    "contiguous HDF5": _hdf5(),
    "compressed HDF5": _hdf5(chunks=(1, 5, 16, 16), compression="gzip"),
    "HDF5 of large chunks": _hdf5(chunks=(64, 5, 16, 16)),
    "zarr": _zarr,
    "dask": _dask,
}


def _first_minibatch(model):
    datamodule = DocumentDataModule(model._readers(model.adata_manager), model._codes(model.adata_manager))
    return next(iter(datamodule.train_dataloader()))


def _compare(model, reference):
    minibatch, expected = _first_minibatch(model), _first_minibatch(reference)
    assert torch.equal(minibatch["context"], expected["context"])
    for name, cells in expected["cells"].items():
        assert torch.equal(minibatch["cells"][name].double(), cells.double())
    np.testing.assert_array_equal(model.get_latent_representation(), reference.get_latent_representation())
    for name in expected["cells"]:
        np.testing.assert_array_equal(
            model.get_reconstruction(modality=name, indices=[5, 1]).prediction,
            reference.get_reconstruction(modality=name, indices=[5, 1]).prediction,
        )


@pytest.mark.parametrize("image_channels", [None, ["actin", "nucleus"]])
@pytest.mark.filterwarnings("ignore:.* is stored in chunks:UserWarning")
@pytest.mark.filterwarnings("ignore:.* lies in zarr:UserWarning")  # where tensorstore is missing
@pytest.mark.parametrize("store", STORES)
def test_images_train_and_embed_alike_from_every_store(make_screen, fit, tmp_path, store, image_channels):
    models = []
    for mdata in (make_screen(), make_screen()):
        if models:
            stored = STORES[store](mdata["image"].obsm[IMAGES], tmp_path)
            mdata["image"].obsm[IMAGES] = stored
            assert mdata["image"].obsm[IMAGES] is stored
        scvi.settings.seed = 0
        models.append(fit(mdata, {"image_channels": image_channels}))
    _compare(models[1], models[0])


@pytest.mark.parametrize(
    "kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.asarray, "float64", "int32"]
)
def test_counts_train_and_embed_alike_in_every_layout(make_screen, fit, kind):
    models = []
    for mdata in (make_screen(), make_screen()):
        if models:
            counts = mdata["rna"].X
            mdata["rna"].X = counts.astype(kind) if isinstance(kind, str) else kind(counts.toarray())
        scvi.settings.seed = 0
        models.append(fit(mdata))
    _compare(models[1], models[0])


def test_images_in_chunks_are_warned_of_once_with_the_conversion_to_type(make_screen, fit, tmp_path):
    screen = make_screen()
    screen["image"].obsm[IMAGES] = STORES["compressed HDF5"](screen["image"].obsm[IMAGES], tmp_path)
    with pytest.warns(UserWarning, match=r"petri_scvi.io.write_training_store\(mdata, 'screen.h5mu'\)") as caught:
        fit(screen)
    assert sum("in chunks" in str(warning.message) for warning in caught) == 1


def test_a_trained_model_embeds_images_on_disk(trained_model, screen, tmp_path):
    screen["image"].obsm[IMAGES] = STORES["compressed HDF5"](screen["image"].obsm[IMAGES], tmp_path)
    np.testing.assert_array_equal(
        trained_model.get_latent_representation(screen), trained_model.get_latent_representation()
    )
