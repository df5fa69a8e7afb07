"""What a training store is made from: one or several screens, in memory or on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from anndata import AnnData
from mudata import MuData

from petri_scvi._constants import STORE_KEY, UNS_KEY
from petri_scvi.common._warn import warn
from petri_scvi.io._open import open_screen

Source: TypeAlias = AnnData | MuData | str | os.PathLike[str]
"""One screen, or one modality of one."""


@dataclass
class Tables:
    """Cells by modality; several tables of one modality follow each other.

    A store of one modality, an ``.h5ad`` file, has one without a name.
    """

    modalities: dict[str | None, list[AnnData]]
    origins: dict[str | None, list[str]]
    """A name for each table."""
    are_stores: dict[str | None, list[bool]]
    """Whether each table is from a training store, whose ``source_row`` is replaced."""
    uns: dict[str, Any] = field(default_factory=dict)
    identity: list[Any] = field(default_factory=list)
    """What must be equal for an interrupted call to be resumed."""
    is_named: bool = False
    """Whether the cells of all modalities have been named by the user, as in a MuData."""


def read_source(source: Source | Sequence[Source] | Mapping[str, Source | Sequence[Source]]) -> Tables:
    """Open the source of a training store.

    Raises
    ------
    TypeError
        It is neither a screen, nor a path, nor several of these.
    ValueError
        It is empty, or mixes MuData and AnnData.
    """
    if isinstance(source, Mapping):
        if not source:
            raise ValueError("source is an empty mapping; pass for example {'image': 'cells.h5sc', 'rna': 'rna.h5ad'}.")
        tables = Tables({}, {}, {})
        for name, part in source.items():
            opened, labels, identity = _open_all(part)
            for label, table in zip(labels, opened, strict=True):
                if not isinstance(table, AnnData):
                    raise ValueError(
                        f"source[{name!r}] ({label}) is a MuData; a mapping has one modality per name. Pass "
                        f"mdata[{name!r}], or the MuData itself as source."
                    )
            tables.modalities[name], tables.origins[name] = list(opened), labels
            tables.are_stores[name] = [_is_store(table) for table in opened]
            tables.identity.append([name, identity])
        return tables
    opened, labels, identity = _open_all(source)
    kinds = {isinstance(screen, MuData) for screen in opened}
    if len(kinds) > 1:
        raise ValueError(
            "source mixes MuData and AnnData. Several files of one screen must be of one kind; name the modality of "
            "each otherwise: {'image': [...], 'rna': [...]}."
        )
    if kinds == {False}:
        are_stores = [_is_store(table) for table in opened]
        return Tables({None: list(opened)}, {None: labels}, {None: are_stores}, identity=identity)
    names = list(dict.fromkeys(name for screen in opened for name in screen.mod))
    joint = sorted({key for screen in opened for key in screen.obsm} - set(names))
    if joint:
        warn(
            f"mdata.obsm has {joint}, which is not stored: a store sorts the rows of each modality. Keep it in a "
            "file of its own, or put the rows of each modality into its obsm."
        )
    return Tables(
        {name: [screen.mod[name] for screen in opened if name in screen.mod] for name in names},
        {name: [label for screen, label in zip(opened, labels, strict=True) if name in screen.mod] for name in names},
        {name: [_is_store(screen) for screen in opened if name in screen.mod] for name in names},
        dict(opened[0].uns),
        identity,
        is_named=True,
    )


def _is_store(screen: AnnData | MuData) -> bool:
    """Whether the screen was read from a training store."""
    return STORE_KEY in screen.uns.get(UNS_KEY, {})


def _open_all(source: Any) -> tuple[list[Any], list[str], list[Any]]:
    """Screens, a different label for each, and what identifies them."""
    several = list(source) if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    if not several:
        raise ValueError("source is an empty list; pass at least one file, AnnData or MuData.")
    opened: list[Any] = []
    labels: list[str] = []
    identity: list[Any] = []
    for i, one in enumerate(several):
        if isinstance(one, AnnData | MuData):
            opened.append(one)
            labels.append(str(i))
            identity.append(type(one).__name__)
        elif isinstance(one, str | os.PathLike):
            path = Path(one).expanduser()
            opened.append(open_screen(path))
            labels.append(path.stem)
            # A file that changed in between must not be mixed with what was read of it before.
            identity.append([path.name, path.stat().st_size, path.stat().st_mtime_ns])
        else:
            raise TypeError(
                f"source is or has a {type(one).__name__}; expected AnnData, MuData, a path of an .h5ad, .h5mu or "
                ".h5sc file, a list of these, or a mapping of modality to these. Of SpatialData and of TIFF fields, "
                "petri_scvi.pp.crops_from_spatialdata and crops_from_fields make an AnnData; pass lazy=True."
            )
    if len(set(labels)) < len(labels):
        labels = [f"{label}-{i}" for i, label in enumerate(labels)]
    return opened, labels, identity
