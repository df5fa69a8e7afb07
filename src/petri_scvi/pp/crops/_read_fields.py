"""Read the argument ``fields``: the image of each field, and its mask if there is one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from petri_scvi.pp.crops._crop_table import require_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE, FOLDER = "FileName", "PathName"
"""CellProfiler writes the name and the folder of a file to two columns, such as FileName_DNA and PathName_DNA."""


def read_fields(
    fields: Any, file_keys: Sequence[str] | None, field_key: str, *, has_masks: bool
) -> dict[str, tuple[Any, Any]]:
    """Image and mask of each field, by name; the mask is ``None`` if the table of cells has centres.

    Raises
    ------
    KeyError
        A column is missing.
    TypeError
        ``fields`` is neither a mapping nor a DataFrame.
    ValueError
        A field lacks its image or its mask, or is named twice.
    """
    if isinstance(fields, pd.DataFrame):
        found = _from_table(fields, file_keys, field_key, has_masks)
    elif file_keys is not None:
        raise TypeError(
            f"file_keys={list(file_keys)} names columns, but fields is a {type(fields).__name__}. Pass the DataFrame "
            "with these columns as fields; it may be the table of cells."
        )
    elif isinstance(fields, Mapping):
        found = {str(name): _from_entry(entry, has_masks) for name, entry in fields.items()}
    else:
        raise TypeError(
            f"fields is a {type(fields).__name__}; expected a mapping such as {{'A1-0': ('A1-0.tif', 'cells.tif')}} "
            "or a DataFrame with the columns image and mask."
        )
    wrong = [name for name, pair in found.items() if len(pair) != 2]
    if not found or (wrong and has_masks):
        raise ValueError(
            f"fields={wrong or 'empty'}; each field needs an image and a mask: {{name: (image, mask)}}. If the table "
            "has the centres of the cells instead, name these columns with x_key and y_key, and pass {name: image}."
        )
    if wrong:
        raise ValueError(
            f"fields={wrong}; with x_key and y_key, a field is its image alone: {{name: image}}, or {{name: [file, "
            "file]} with one file per channel. Leave the masks out."
        )
    return found


def _from_entry(entry: Any, has_masks: bool) -> tuple[Any, ...]:
    if has_masks:
        # tuple() of an array would split it, and its first two channels would pass for an image and a mask.
        return tuple(entry) if isinstance(entry, list | tuple) else (entry,)
    # A tuple is an image and a mask: the mask must not become a channel.
    return () if isinstance(entry, tuple) else (entry, None)


def _from_table(
    fields: pd.DataFrame, file_keys: Sequence[str] | None, field_key: str, has_masks: bool
) -> dict[str, tuple[Any, ...]]:
    masks = ["mask"] if has_masks else []
    if file_keys is None:
        require_columns(fields, ["image", *masks], "fields", "Name the files in them, or their columns with file_keys.")
        names, images = fields.index, fields["image"]
    else:
        if isinstance(file_keys, str) or not len(file_keys):
            raise ValueError(f"file_keys={file_keys!r}; pass a list with the column of each channel.")
        require_columns(fields, [*file_keys, *masks], "fields", "Pass columns of these.")
        folders = [key for key in map(_folder_key, file_keys) if key in fields]
        if field_key in fields and all(isinstance(mask, str | os.PathLike) for key in masks for mask in fields[key]):
            fields = fields.drop_duplicates([field_key, *file_keys, *folders, *masks])  # it may have a row per cell
        names = fields[field_key] if field_key in fields else fields.index
        images = _files(fields, file_keys)
    names = pd.Index(names).astype(str)
    if not names.is_unique:
        twice = names[names.duplicated()][0]
        raise ValueError(
            f"fields has several rows for {twice!r} that name different files. Give each field a unique name in the "
            f"index or, with file_keys, in the column {field_key!r}."
        )
    return dict(
        zip(names, zip(images, fields["mask"] if has_masks else [None] * len(fields), strict=True), strict=True)
    )


def _folder_key(file_key: str) -> str | None:
    folder = file_key.replace(FILE, FOLDER)
    return folder if folder != file_key else None


def _files(fields: pd.DataFrame, file_keys: Sequence[str]) -> list[list[Path]]:
    """One file per channel for each row."""
    columns = []
    for key in file_keys:
        values = fields[key]
        is_path = values.map(lambda value: isinstance(value, str | os.PathLike) and bool(os.fspath(value))).to_numpy()
        if not is_path.all():
            raise ValueError(
                f"fields[{key!r}] names no file in {int((~is_path).sum())} of {len(fields)} rows. Drop these rows, or "
                "remove the channel from file_keys."
            )
        folder = _folder_key(key)
        folders = fields[folder] if folder in fields else [""] * len(fields)
        columns.append([Path(place) / name for place, name in zip(folders, values, strict=True)])
    return [list(files) for files in zip(*columns, strict=True)]


def name_channels(file_keys: Sequence[str] | None, n_channels: int, channel_names: Sequence[str] | None) -> list[str]:
    """Names of all channels: those that were passed, else those of the columns, else positions."""
    if channel_names is None:
        if file_keys is not None:
            return [key.removeprefix(f"{FILE}_") for key in file_keys]
        return [str(i) for i in range(n_channels)]
    if isinstance(channel_names, str) or len(channel_names) != n_channels:
        raise ValueError(f"channel_names={channel_names!r}; the images have {n_channels} channels. Name each of them.")
    return [str(name) for name in channel_names]
