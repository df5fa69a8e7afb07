"""Open a screen without reading its large arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset
from mudata import MuData

from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi.pp._store_file import check_is_finished

if TYPE_CHECKING:
    import os

SMALL_SLOTS = ("uns", "varm", "obsp", "varp")


def open_screen(path: str | os.PathLike[str]) -> AnnData | MuData:
    """Open a file without reading its images and matrices.

    Tables are read; ``X``, layers and the arrays of ``obsm`` stay on disk, where PETRI reads the rows it needs. Made
    for files of :func:`write_training_store`, whose images can be mapped into memory; images in any other layout are
    read row by row, which is slower.

    Parameters
    ----------
    path
        A ``.h5mu`` file, or a ``.h5ad`` or scPortrait ``.h5sc`` file of one modality.

    Returns
    -------
    MuData of an ``.h5mu`` file, otherwise AnnData. Dense arrays are ``h5py.Dataset``, sparse matrices anndata's
    sparse datasets; ``array[:]`` and ``matrix.to_memory()`` read them. What an ``.h5mu`` file holds beside its
    modalities and ``uns``, such as a joint ``obsm``, is not opened.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not HDF5, or a training store whose writing did not end.

    Examples
    --------
    >>> mdata = petri_scvi.pp.open_screen("screen.h5mu")
    >>> petri_scvi.PETRI.setup_mudata(mdata)
    """
    path = Path(path).resolve()
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file; expected .h5mu, .h5ad or .h5sc.")
    file = h5py.File(path, "r")
    check_is_finished(file)
    if "mod" not in file:
        return _open_table(file)
    order = file["mod"].attrs.get("mod-order", list(file["mod"]))
    with columns_stay_in_modalities():
        mdata = MuData({str(name): _open_table(file["mod"][name]) for name in order})
    if "uns" in file:
        mdata.uns = read_elem(file["uns"])
    return mdata


def _open_table(group: h5py.Group) -> AnnData:
    slots: dict[str, Any] = {name: read_elem(group[name]) for name in SMALL_SLOTS if name in group}
    for name in ("layers", "obsm"):
        slots[name] = {key: _open_array(element) for key, element in group.get(name, {}).items()}
    adata = AnnData(obs=read_elem(group["obs"]), var=read_elem(group["var"]), **slots)
    if "X" in group and group["X"].attrs.get("encoding-type") != "null":
        adata.X = _open_array(group["X"])
    return adata


def _open_array(element: h5py.Dataset | h5py.Group) -> Any:
    kind = element.attrs.get("encoding-type", "")
    if kind in {"csr_matrix", "csc_matrix"}:
        return sparse_dataset(element)
    # Tables and other compound things are small; scPortrait and older writers mark arrays with nothing.
    return element if isinstance(element, h5py.Dataset) and element.dtype.names is None else read_elem(element)
