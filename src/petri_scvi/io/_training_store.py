"""Write a training store: a file from which PETRI reads minibatches as fast as from memory."""

from __future__ import annotations

import math
from contextlib import nullcontext
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from petri_scvi._checks import check_flags, check_seed, context_columns
from petri_scvi._constants import CONTEXT_KEY, IMAGES_KEY
from petri_scvi.common import one_writer, sole_writer
from petri_scvi.common._files import check_parent
from petri_scvi.common._storable import check_mapping
from petri_scvi.io._open import open_store
from petri_scvi.io.store._file import RECORDS, check_is_finished, open_raw, read_layouts
from petri_scvi.io.store._source import read_source
from petri_scvi.io.store._tables import join_tables
from petri_scvi.io.store._write import N_COPIES, describe_damage, show_bytes, verify, write_file
from petri_scvi.io.store._zarr import verify_zarr, write_zarr

ZARR = ".zarr"

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from petri_scvi.io.store._source import Source, Tables
    from petri_scvi.io.store._tables import Modality


def write_training_store(
    source: Source | Sequence[Source] | Mapping[str, Source | Sequence[Source]],
    path: str | os.PathLike[str],
    *,
    context_key: str | Sequence[str] = CONTEXT_KEY,
    images_key: str = IMAGES_KEY,
    image_channels: Sequence[str | int] | None = None,
    max_memory: int = 2**30,
    seed: int = 0,
    progress: bool = True,
) -> None:
    """Write a screen to a file, or to a zarr store, that is fast to train from.

    The file is an ordinary ``.h5mu`` or ``.h5ad``. Its cells are sorted by context, and shuffled within a context, so
    that the cells of a document lie together; images are contiguous, uncompressed integers, which can be mapped into
    memory; expression is CSR. :func:`open_screen` opens it without reading either.

    A path that ends in ``.zarr`` creates an ordinary zarr v3 store (extra ``zarr``) of the same cells in the same
    order: images in shards of 1,000 cells, one cell per chunk, compressed with LZ4. It is smaller and consists of files
    of moderate size, which suit object stores; the single file is faster to train from. Because a shard cannot be
    written in parts, the single file is written beside it first, copied shard by shard, and removed.

    An interrupted call can be repeated and resumes where it stopped: blocks are copied to ``path + ".partial"``, each
    is marked as written once it is on the disk, all are read back and compared with their checksums, and only then is
    the file renamed to ``path``. The result is byte-identical to that of an uninterrupted call.

    Parameters
    ----------
    source
        MuData or AnnData, in memory or on disk; a path of an ``.h5mu``, ``.h5ad`` or scPortrait ``.h5sc`` file; a list
        of these, whose cells follow each other as one screen; or a mapping of modality to any of these, which is
        written as one ``.h5mu``. If a file lacks the context column, open it with :func:`open_screen`, add the column,
        and pass the opened screen.
    path
        File to write. ``.h5mu`` for several modalities, ``.h5ad`` for an AnnData, ``.zarr`` for either.
    context_key
        ``obs`` column of each modality that says which document a cell may join, or several.
    images_key
        ``obsm`` slot of the crops, shape ``(n, C, H, W)``. Integers stay as they are; floats must lie in [0, 1], as in
        scPortrait's files, and become uint16 with 65,535 for 1.
    image_channels
        Names or positions of the channels to keep, in this order; masks may be among them. If ``None``, all but those
        that ``var["channel_mapping"]`` calls masks, as scPortrait does.
    max_memory
        Memory for the cells that are being copied, in bytes. Tables, eight bytes per cell and array, and about 60 MB of
        libraries are not included. Shards of a zarr store are smaller where a thousand cells take more than a quarter
        of it.
    seed
        Seed of the order within contexts.
    progress
        Show progress bars.

    Returns
    -------
    ``None``. The file has ``obs``, ``var``, ``varm``, ``uns``, ``X``, ``layers`` and ``obsm`` of each modality; a joint
    ``obsm`` of a MuData is left out, with a warning. Names of cells are kept, prefixed with the label of their file
    where files share names, and with that of their modality where modalities do. ``obs["source_row"]`` is the row in
    the source, ``obs["source"]`` the file if there were several. ``uns["petri_scvi"]["training_store"]`` has the
    arguments and a CRC-32 of each row, which :func:`verify_training_store` compares.

    Raises
    ------
    BlockingIOError
        Another process writes to ``path``.
    FileExistsError
        ``path`` exists, or an interrupted call left a file made from another source or with other arguments.
    ImportError
        ``path`` ends in ``.zarr``, and zarr or tensorstore is not installed.
    KeyError
        A modality lacks the context column, or none has the images that were named.
    OSError
        The disk is too small, including the file beside a zarr store, or returns other bytes than were written.
    ValueError
        The source cannot be stored; the error message explains why.

    Examples
    --------
    >>> petri_scvi.io.write_training_store({"image": "image.h5ad", "rna": "rna.h5ad"}, "screen.h5mu")
    >>> mdata = petri_scvi.io.open_screen("screen.h5mu")
    """
    path = Path(path).expanduser().resolve()
    check_flags(progress=progress)
    check_seed(seed)
    _check_bytes(max_memory)
    tables = read_source(source)
    _check_place(path, tables)
    with one_writer(path) as is_writer, sole_writer(path) if is_writer else nullcontext():
        if not is_writer:
            return
        if path.exists():
            raise FileExistsError(f"{path} exists. Delete it, or pass another path.")
        _check_images_key(images_key, image_channels, tables)
        columns = context_columns(context_key)
        modalities = [
            join_tables(
                name,
                parts,
                tables.origins[name],
                tables.are_stores[name],
                context_key=columns,
                images_key=images_key,
                image_channels=image_channels,
                seed=[seed, i],
            )
            for i, (name, parts) in enumerate(tables.modalities.items())
        ]
        _check_arrays(tables, modalities, int(max_memory) // N_COPIES)
        arguments = {"context_key": columns, "max_memory": max_memory, "seed": seed, "source": tables.identity}
        write = write_zarr if path.suffix == ZARR else write_file
        write(path, tables, modalities, arguments, max_memory=max_memory, progress=progress)


def verify_training_store(path: str | os.PathLike[str], *, progress: bool = True) -> None:
    """Read a training store, a file or in zarr, and compare every row with its checksum.

    Parameters
    ----------
    path
        File, or zarr store, of :func:`write_training_store`.
    progress
        Show a progress bar.

    Raises
    ------
    OSError
        Rows differ from what was written.
    ValueError
        The file is not a training store, or is incomplete.
    """
    check_flags(progress=progress)
    path = Path(path).expanduser().resolve()
    with open_store(path) as file:
        if RECORDS not in file:
            raise ValueError(f"{path} has no checksums; petri_scvi.io.write_training_store writes them.")
        check_is_finished(file, path)
        layouts = read_layouts(file) if isinstance(file, h5py.File) else {}
    with show_bytes(progress) as bar:
        if path.is_dir():
            damaged = verify_zarr(path, bar)
        else:
            with open_raw(path) as raw:
                damaged = verify(raw, layouts, bar)
    if damaged:
        raise OSError(f"{path} is damaged: {describe_damage(damaged)}. Write it again from its source.")


def _check_bytes(max_memory: object) -> None:
    """Require a number; whether it is large enough is checked once the rows are known."""
    if isinstance(max_memory, bool) or not isinstance(max_memory, Real) or not math.isfinite(max_memory):
        raise ValueError(f"max_memory={max_memory!r}; it is a number of bytes, such as max_memory=2 * 2**30.")


def _check_images_key(images_key: str, image_channels: Sequence[str | int] | None, tables: Tables) -> None:
    """Require images if ``images_key`` or channels are given: under another name they would be stored unchanged."""
    slots = {key for parts in tables.modalities.values() for table in parts for key in table.obsm}
    if images_key in slots or (images_key == IMAGES_KEY and image_channels is None):
        return
    about = f"images_key={images_key!r}" if images_key != IMAGES_KEY else f"image_channels={image_channels!r}"
    raise KeyError(
        f"{about}, but no source has obsm[{images_key!r}]; they have {sorted(slots)}. Name the slot of the crops with "
        "images_key, or leave both out if there are none."
    )


def _check_arrays(tables: Tables, modalities: Sequence[Modality], max_bytes: int) -> None:
    """Require something to store, and values that training can read."""
    if not any(modality.arrays for modality in modalities):
        raise ValueError(
            "source has no X, layers or obsm in any modality, so there is nothing to store. Pass the screen with its "
            "images or counts."
        )
    check_mapping(tables.uns, "source.uns")
    for modality in modalities:
        for array in modality.arrays:
            array.check_range(max_bytes)


def _check_place(path: Path, tables: Tables) -> None:
    check_parent(path)
    is_single = set(tables.modalities) == {None}
    expected = ".h5ad" if is_single else ".h5mu"
    if path.suffix not in {expected, ZARR}:
        hint = " Name its modality to write an .h5mu: source={'image': ...}." if is_single else ""
        found = "one table without a modality" if is_single else f"the modalities {list(tables.modalities)}"
        raise ValueError(f"path={path.name!r}; the source has {found}, which is written as {expected} or .zarr.{hint}")
