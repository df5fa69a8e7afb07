"""Find an embedding and the cells it describes, and read it in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from petri_scvi._checks import check_modality_names
from petri_scvi._constants import ALL
from petri_scvi.common import is_first_process, one_writer, rows_in_modality, user_path, written_whole
from petri_scvi.common._files import check_space
from petri_scvi.common._labels import check_controls, check_one_column, read_column, read_labels
from petri_scvi.common._numbers import check_numbers, number_dtype
from petri_scvi.tl._read_rows import CHUNK_ROWS, chosen_rows, read_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels

    Transform = Callable[[NDArray[np.float64], slice], NDArray[np.float64]]
    """Maps a chunk of rows and their place in the matrix to the changed chunk."""

MODALITY = "\0modality"
"""Column of the modality in ``Slot.cells``; a name that no user column has."""


@dataclass(frozen=True)
class Slot:
    """One ``obsm`` matrix.

    ``cells`` has one row per row of the matrix: ``MODALITY`` and the ``obs`` columns that were asked for.
    """

    owner: AnnData | MuData
    key: str
    array: Any
    cells: pd.DataFrame

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of dimensions."""
        return int(self.array.shape[0]), int(self.array.shape[1])

    def chunks(self, *transforms: Transform) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Yield the rows in order as float64, after the transforms; the caller may change a chunk."""
        n_rows = self.shape[0]
        for start in range(0, n_rows, CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, n_rows))
            chunk = read_rows(self.array, rows)
            for transform in transforms:
                chunk = transform(chunk, rows)
            yield rows, chunk

    def sum_groups(
        self, group: NDArray[np.intp], n_groups: int, *transforms: Transform
    ) -> tuple[NDArray[np.float64], NDArray[np.intp], int]:
        """Sum of the transformed rows of each group, from one pass through the matrix; -1 is no group.

        Returns the sums, shape ``(n_groups, D)``, the rows in each, and how many rows were left out as not finite.
        """
        sums, counts, n_bad = np.zeros((n_groups, self.shape[1])), np.zeros(n_groups, dtype=np.intp), 0
        for rows, chunk in self.chunks(*transforms):
            is_used, is_finite = group[rows] >= 0, finite_rows(chunk)
            n_bad += int((is_used & ~is_finite).sum())
            keep = is_used & is_finite
            if not keep.any():  # for example in chunks of controls or of another modality
                continue
            labels = group[rows][keep]
            present, place = np.unique(labels, return_inverse=True)
            indicator = sparse.csr_matrix((np.ones(len(labels)), (place, np.arange(len(labels)))))
            sums[present] += indicator @ chunk[keep]
            counts += np.bincount(labels, minlength=n_groups)
        return sums, counts, n_bad

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.floating[Any]]:
        """Chosen rows, shape ``(len(rows), D)``, in single precision if the matrix is."""
        return chosen_rows(self.array, rows, self.result_dtype)

    def write(self, key_added: str, transform: Transform, folder: str | os.PathLike[str] | None = None) -> None:
        """Put the transformed matrix into ``owner.obsm[key_added]``, in place if it replaces its own array.

        With a folder, it is written to a file there, which is then mapped into memory.
        """
        dtype = self.result_dtype
        if folder is not None:
            self.owner.obsm[key_added] = self._write_file(self.file(folder, key_added), dtype, transform)
            return
        in_place = key_added == self.key and _is_own_memory(self.array, dtype) and not self._is_shared()
        target = self.array if in_place else np.empty(self.shape, dtype=dtype)
        for rows, chunk in self.chunks(transform):
            target[rows] = chunk
        if not in_place:
            self.owner.obsm[key_added] = target

    def _is_shared(self) -> bool:
        """Whether another slot has the same array, or a part of it."""
        holders = [self.owner, *(self.owner.mod.values() if isinstance(self.owner, MuData) else ())]
        return any(
            np.may_share_memory(array, self.array)
            for holder in holders
            for key, array in holder.obsm.items()
            if isinstance(array, np.ndarray) and not (holder is self.owner and key == self.key)
        )

    def file(self, folder: str | os.PathLike[str], key_added: str) -> Path:
        """Path of the file of a matrix; its name starts with that of the modality if the rows are of a single one."""
        names = pd.unique(self.cells[MODALITY].dropna())
        prefix = f"{names[0]}_" if len(names) == 1 and names[0] != ALL else ""
        return user_path(folder).resolve() / f"{prefix}{key_added}.npy"

    def _write_file(self, path: Path, dtype: Any, transform: Transform) -> NDArray[Any]:
        with one_writer(path, is_first=True) as is_writer:
            if is_writer:
                self._fill_file(path, dtype, transform)
        return np.asarray(np.load(path, mmap_mode="r"))  # still mapped; anndata does not write the class memmap

    def _fill_file(self, path: Path, dtype: Any, transform: Transform) -> None:
        with written_whole(path) as unfinished:
            target = np.lib.format.open_memmap(unfinished, mode="w+", dtype=dtype, shape=self.shape)
            for rows, chunk in self.chunks(transform):
                target[rows] = chunk
            target.flush()
            del target  # a mapped file cannot be renamed on Windows

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """Data type of a transformed matrix."""
        return np.promote_types(number_dtype(self.array), np.float32)  # float32 cannot hold large integers exactly


def check_files(slots: Sequence[Slot], folder: str | os.PathLike[str] | None, key_added: str) -> None:
    """Require that results can be written to new files in a folder, before any of them is computed."""
    if folder is None:
        return
    if not user_path(folder).is_dir():
        raise FileNotFoundError(f"folder={str(folder)!r} is not a folder. Create it first, or pass another one.")
    if not is_first_process():  # the first one may have written them by now
        return
    for slot in slots:
        path = slot.file(folder, key_added)
        if path.exists():
            raise FileExistsError(f"{path} exists. Delete it, or pass another folder or key_added.")
    n_bytes = sum(int(np.prod(slot.shape)) * slot.result_dtype.itemsize for slot in slots)
    check_space(user_path(folder), n_bytes, key_added, remedy="pass a folder on another disk")


def find_slots(
    data: AnnData | MuData,
    key: str,
    columns: Sequence[str] = (),
    *,
    modality: str | None = None,
    is_text: bool = True,
) -> list[Slot]:
    """Find all matrices named ``key``: one for a space that modalities share, otherwise one per modality.

    Parameters
    ----------
    data
        Cells.
    key
        ``obsm`` slot of the MuData or, if it has none of this name, of its modalities.
    columns
        ``obs`` columns to align with the rows; they are read from each modality's own ``obs``.
    modality
        Leave out the cells of every other modality.
    is_text
        Whether to read the columns as text labels; otherwise floats, except in categories, stay numbers.

    Raises
    ------
    KeyError
        There is no such slot, column or modality.
    TypeError
        The data are neither an AnnData nor a MuData, or a column is a list of columns.
    ValueError
        The matrix is not two-dimensional, a cell has been measured in two modalities, or two columns have one name.
    """
    for column in columns:
        check_one_column(column, "the obs of each modality" if isinstance(data, MuData) else "adata.obs")
    if isinstance(data, MuData):
        return _slots_of_mudata(data, key, columns, modality, is_text)
    if not isinstance(data, AnnData):
        raise TypeError(
            f"expected an AnnData or a MuData, found {type(data).__name__}. Store an array in the obsm of an AnnData "
            f"whose obs describes the cells: adata.obsm[{key!r}] = array"
        )
    if modality is not None:
        raise ValueError(f"modality={modality!r} names a modality of a MuData, found an AnnData; leave it out")
    if key not in data.obsm:
        raise KeyError(_no_key(key, f"adata.obsm, which has {sorted(data.obsm)}", "adata"))
    array = _checked(data.obsm[key], key)
    cells = {MODALITY: np.full(len(data), ALL, dtype=object)}
    cells |= {column: _column(data.obs, column, "adata.obs", is_text) for column in columns}
    return [Slot(data, key, array, pd.DataFrame(cells))]


def _slots_of_mudata(data: MuData, key: str, columns: Sequence[str], modality: str | None, is_text: bool) -> list[Slot]:
    if modality is not None and modality not in data.mod:
        raise KeyError(f"modality={modality!r} is not in mdata.mod; it has {list(data.mod)}. Name one of these.")
    check_modality_names(data.mod)
    names = list(data.mod) if modality is None else [modality]
    if key in data.obsm and key not in data.mod:  # under the name of a modality, mudata notes which cells it has
        return [_shared_slot(data, key, columns, names, is_text)]
    holders = [name for name in names if key in data.mod[name].obsm]
    if not holders:
        found = {name: sorted(data.mod[name].obsm) for name in names}
        raise KeyError(
            _no_key(key, f"mdata.obsm, which has {sorted(set(data.obsm) - set(data.mod))}, nor in {found}", "mdata")
        )
    slots = []
    for name in holders:
        (slot,) = find_slots(data.mod[name], key)
        cells = {MODALITY: np.full(slot.shape[0], name, dtype=object)}
        obs = data.mod[name].obs
        cells |= {column: _column(obs, column, f"mdata[{name!r}].obs", is_text) for column in columns}
        slots.append(Slot(data.mod[name], key, slot.array, pd.DataFrame(cells)))
    return slots


def _shared_slot(data: MuData, key: str, columns: Sequence[str], names: Sequence[str], is_text: bool) -> Slot:
    array = _checked(data.obsm[key], key)
    filled: dict[str, NDArray[Any]] = {
        column: np.full(data.n_obs, None, dtype=object) for column in (MODALITY, *columns)
    }
    for name in names:
        place = rows_in_modality(data, name)
        rows = np.flatnonzero(place >= 0)
        n_twice = int((filled[MODALITY][rows] != None).sum())  # noqa: E711
        if n_twice:
            raise ValueError(
                f"{n_twice} cells are in mdata[{name!r}] and in another modality, so a row of mdata.obsm[{key!r}] does "
                f"not belong to one modality. Store one embedding per modality: mdata[{name!r}].obsm[{key!r}] = ...; "
                f"or pass modality={name!r} to functions that accept it."
            )
        filled[MODALITY][rows] = name
        for column in columns:
            values = _column(data.mod[name].obs, column, f"mdata[{name!r}].obs", is_text)
            filled[column][rows] = values[place[rows]]
    return Slot(data, key, array, pd.DataFrame(filled))


def control_names(slots: Sequence[Slot], column: str, control: Labels) -> list[str]:
    """Labels of controls as text; each must occur in a column of the slots."""
    labels = {}
    for slot in slots:
        for name, cells in slot.cells.groupby(MODALITY, sort=False):
            where = "adata" if name == ALL else f"mdata[{name!r}]"
            labels[f"{where}.obs[{column!r}]"] = cells[column]
    return check_controls(labels, control)


def finite_rows(chunk: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Rows without NaN or infinity."""
    return np.isfinite(chunk).all(axis=1)


def subsample(rows: NDArray[np.intp], n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw at most ``n`` of the rows without replacement, sorted."""
    return rows if len(rows) <= n else np.sort(rng.choice(rows, size=n, replace=False))


def _checked(array: Any, key: str) -> Any:
    if len(array.shape) != 2 or 0 in array.shape:
        raise ValueError(f"obsm[{key!r}] has shape {tuple(array.shape)}; expected (n_cells, D), one vector per cell")
    check_numbers(array, f"obsm[{key!r}]")
    return array


def _column(obs: pd.DataFrame, column: str, where: str, is_text: bool) -> NDArray[Any]:
    found = read_column(obs, column, where).infer_objects()
    if is_text or not pd.api.types.is_float_dtype(found.dtype):
        return read_labels(obs, column, where).to_numpy()
    values: NDArray[Any] = found.astype(object).to_numpy(copy=True)
    values[pd.isna(values)] = None
    return values


def _no_key(key: str, where: str, name: str) -> str:
    return (
        f"key={key!r} is not in {where}. Store the embedding first, for example {name}.obsm[{key!r}] = "
        "model.get_latent_representation()."
    )


def _is_own_memory(array: Any, dtype: Any) -> bool:
    """Whether the array may be overwritten: plain, writable, and not mapped from a file of the user."""
    base = array
    while base is not None:
        if isinstance(base, np.memmap):
            return False
        base = getattr(base, "base", None)
    return type(array) is np.ndarray and array.flags.writeable and array.dtype == dtype
