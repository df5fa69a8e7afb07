"""Open a screen without reading its large arrays."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset
from mudata import MuData

from petri_scvi._checks import require
from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi.common._warn import warn
from petri_scvi.io.store._file import check_is_finished

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL_SLOTS = ("uns", "varm", "obsp", "varp")


def open_screen(path: str | os.PathLike[str]) -> AnnData | MuData:
    """Open a file, or a zarr store, without reading its images and matrices.

    Tables are read; ``X``, layers and the arrays of ``obsm`` stay on disk, where PETRI reads the rows it needs. Made
    for what :func:`write_training_store` writes: a file whose images can be mapped into memory, or a zarr store that
    is read through tensorstore. Images in any other layout are read row by row, which is slower.

    Parameters
    ----------
    path
        An ``.h5mu`` file, an ``.h5ad`` or scPortrait ``.h5sc`` file of one modality, or a ``.zarr`` store of an
        AnnData or MuData.

    Returns
    -------
    MuData of an ``.h5mu`` file, otherwise AnnData. Dense arrays are ``h5py.Dataset`` or ``zarr.Array``, sparse matrices
    anndata's sparse datasets; ``array[:]`` and ``matrix.to_memory()`` read them. Besides its modalities, ``uns`` and
    the joint ``obsm`` of a MuData are opened.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ImportError
        It is a zarr store, and zarr is not installed.
    OSError
        The file was cut off.
    ValueError
        It is neither HDF5 nor zarr, holds no AnnData or MuData, links to other files, or is an incomplete training
        store.

    Warns
    -----
    UserWarning
        The rows of the MuData are in another order than those of its modalities, one after another: its joint ``obsm``
        is not opened.

    Examples
    --------
    >>> mdata = petri_scvi.io.open_screen("screen.h5mu")
    >>> petri_scvi.PETRI.setup_mudata(mdata)
    """
    path = Path(path).expanduser().resolve()
    file = _open_file(path)
    check_is_finished(file, path)
    if "mod" not in file and file.attrs.get("encoding-type") != "MuData":
        return _open_table(file, path)
    names = list(file["mod"].attrs.get("mod-order", file["mod"])) if "mod" in file else []
    if not names:
        raise ValueError(
            f"{path} is a MuData without modalities: it has {sorted(file)}. Write it again: mdata.write(...)."
        )
    with columns_stay_in_modalities():
        mdata = MuData({str(name): _open_table(file["mod"][name], path) for name in names})
    if "uns" in file:
        mdata.uns = read_elem(file["uns"])
    # mudata also stores there, under the names of the modalities, which rows belong to them.
    joint = {key: file["obsm"][key] for key in file["obsm"] if key not in mdata.mod} if "obsm" in file else {}
    if joint and not mdata.obs_names.equals(read_elem(file["obs"]).index):
        warn(
            f"{path}: the joint obsm, {sorted(joint)}, is not opened: its rows are in another order than those of the "
            "modalities, one after another. mudata.read_h5mu and mudata.read_zarr can read it."
        )
        return mdata
    for key, element in joint.items():
        mdata.obsm[key] = _open_array(element)
    return mdata


@contextmanager
def open_store(path: Path) -> Iterator[Any]:
    """An HDF5 file or a zarr group that is closed at the end."""
    file = _open_file(path)
    try:
        yield file
    finally:
        if isinstance(file, h5py.File):
            file.close()


def _open_file(path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if path.is_dir():
        if not any((path / name).exists() for name in ("zarr.json", ".zgroup")):
            raise ValueError(
                f"{path} is a folder, but not a zarr store; expected .zarr, .h5mu, .h5ad or .h5sc. "
                "petri_scvi.pp.crops_from_fields cuts crops from a folder of TIFF fields."
            )
        return require("zarr", "zarr").open_group(path, mode="r")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file; expected .h5mu, .h5ad or .h5sc, or a .zarr folder.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise OSError(
            f"{path} cannot be opened: {error}. If it was cut off, copy or write it again; if another process writes "
            "it, wait."
        ) from error
    if places := sorted(_leaving(file, set())):
        read = "mudata.read_h5mu" if path.suffix == ".h5mu" else "anndata.read_h5ad"
        file.close()
        raise ValueError(
            f"{path} links to other files: {', '.join(places[:5])}. They are not followed, because a file from another "
            f"person could expose any file of this machine. If you trust the links, write a copy without them: "
            f"{read}({path.name!r}).write('copy{path.suffix}')."
        )
    return file


def _leaving(group: h5py.Group, seen: set[Any]) -> Iterator[str]:
    """Links to other files and arrays that are stored in them, as ``"place -> file"``; none is followed."""
    links = group.id.links  # h5py's groups would check whether the file exists
    for name in group:
        kind, place = links.get_info(name.encode()).type, f"{group.name.rstrip('/')}/{name}"
        if kind == h5py.h5l.TYPE_EXTERNAL:
            yield f"{place} -> {os.fsdecode(links.get_val(name.encode())[0])}"
        if kind != h5py.h5l.TYPE_HARD:
            continue  # a soft link leads to something else in this file
        element = group[name]
        identity = h5py.h5o.get_info(element.id).addr
        if identity in seen:
            continue
        seen.add(identity)
        if isinstance(element, h5py.Group):
            yield from _leaving(element, seen)
        elif isinstance(element, h5py.Dataset):
            others = [file for file, *_ in element.external or []]
            others += [source.file_name for source in element.virtual_sources()] if element.is_virtual else []
            yield from (f"{place} -> {file}" for file in dict.fromkeys(others) if file != ".")


def _open_table(group: Any, path: Path) -> AnnData:
    if "spatialdata_attrs" in group.attrs:
        raise ValueError(f"{path} is SpatialData. Cut crops first: petri_scvi.pp.crops_from_spatialdata(path, ...).")
    # Any file may have groups with these names; they are tables only if their metadata say so.
    lacking = [name for name in ("obs", "var") if name not in group or not _is_table(group[name])]
    if lacking:
        raise ValueError(
            f"{path} holds no AnnData{'' if group.name == '/' else f' in {group.name}'}: {' and '.join(lacking)} must "
            f"be tables as anndata writes them since release 0.7, and there is {sorted(group)}. Convert an older file "
            "with anndata.read_h5ad(path).write_h5ad(...); write crops of another kind of file as an AnnData: "
            "AnnData(obs=..., obsm={'single_cell_images': ...}).write_h5ad(...)."
        )
    slots: dict[str, Any] = {name: read_elem(group[name]) for name in SMALL_SLOTS if name in group}
    for name in ("layers", "obsm"):
        slots[name] = {key: _open_array(group[name][key]) for key in group[name]} if name in group else {}
    adata = AnnData(obs=read_elem(group["obs"]), var=read_elem(group["var"]), **slots)
    if "X" in group and group["X"].attrs.get("encoding-type") != "null":
        adata.X = _open_array(group["X"])
    return adata


def _is_table(element: Any) -> bool:
    return element.attrs.get("encoding-type") == "dataframe"


def _open_array(element: Any) -> Any:
    kind = element.attrs.get("encoding-type", "")
    if kind in {"csr_matrix", "csc_matrix"}:
        return sparse_dataset(element)
    # Tables and other compound elements are small; scPortrait and older writers add no metadata to arrays.
    is_array = hasattr(element, "dtype") and element.dtype.names is None
    return element if is_array else read_elem(element)
