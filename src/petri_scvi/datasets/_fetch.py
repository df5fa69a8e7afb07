"""Download once, verify, cache."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pooch

if TYPE_CHECKING:
    from ._registry import Entry

CACHE_VARIABLE = "PETRI_SCVI_CACHE"
"""Environment variable that names the folder to look in first."""


def find(entry: Entry, cache_dir: str | Path | None = None) -> Path | None:
    """Path of the verified local copy, or ``None`` if there is none.

    Parameters
    ----------
    entry
        The file.
    cache_dir
        Folder to look in first; may be read-only. ``None`` means the folder named by ``PETRI_SCVI_CACHE``, if any. The
        user's cache folder comes last.

    Raises
    ------
    ValueError
        A file of this name exists, but is not the registered one.
    """
    for folder in _folders(cache_dir):
        path = folder / entry.file_name
        if path.is_file():
            found = pooch.file_hash(str(path), alg="sha256")
            if found != entry.sha256:
                raise ValueError(
                    f"SHA-256 hash mismatch: {path} has {found}, expected {entry.sha256}. It is damaged or another "
                    "version; delete it and call again."
                )
            return path
    return None


def fetch(entry: Entry, cache_dir: str | Path | None = None) -> Path:
    """Path of the verified local copy, downloaded on first use.

    Parameters
    ----------
    entry
        The file.
    cache_dir
        As in :func:`find`. A download goes to the first of these folders that can be written to.

    Raises
    ------
    FileNotFoundError
        The file is not in the cache and cannot be downloaded.
    ValueError
        The file in the cache, or the download, is not the registered one.

    Notes
    -----
    The download is written to a temporary file and moved to its name only after the hash was checked, so an
    interrupted download never leaves a file that looks complete.
    """
    path = find(entry, cache_dir)
    if path is not None:
        return path
    folders = _folders(cache_dir)
    if entry.url is None:
        raise FileNotFoundError(f"{entry.file_name} cannot be downloaded and is not in {[str(f) for f in folders]}")
    target = next((f for f in folders if _is_writable(f)), folders[-1]) / entry.file_name
    return Path(pooch.retrieve(entry.url, f"sha256:{entry.sha256}", fname=target.name, path=target.parent))


def require(module: str) -> Any:
    """Import an optional package, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{module} is needed to read the real files; run pip install "petri-scvi[real]"', name=module
        ) from error


def _folders(cache_dir: str | Path | None) -> list[Path]:
    """Where to look, in this order."""
    first = cache_dir or os.environ.get(CACHE_VARIABLE)
    user = Path(pooch.os_cache("petri_scvi"))
    return [Path(first).expanduser(), user] if first else [user]


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder that may not exist yet."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return os.access(existing, os.W_OK)
