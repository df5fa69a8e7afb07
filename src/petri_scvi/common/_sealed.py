"""Files of tensors and plain values, with a checksum, that are read without running code."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import os
    from typing import BinaryIO

SEAL = b"petri-scvi sha256 "
"""Start of the comment at the end of the archive, before the checksum of all earlier bytes, 64 hexadecimal digits."""
N_DIGITS = 64
EMPTY_COMMENT = b"\0\0"
CHUNK_BYTES = 2**22


class UnreadableFileError(ValueError):
    """A file cannot be read; the message is the end of a sentence that begins with its name."""


def write_sealed(path: Path, content: dict[str, Any], **save_kwargs: Any) -> None:
    """Write tensors and plain values with :func:`torch.save`, and their checksum behind them.

    Parameters
    ----------
    path
        File to write.
    content
        Tensors, numbers, texts, ``None``, and lists and dictionaries of them.
    save_kwargs
        Arguments of :func:`torch.save`.
    """
    # torch reports a full disk as a wrong position in an archive.
    in_memory = io.BytesIO()
    torch.save(content, in_memory, **save_kwargs)
    _seal(in_memory, path)
    path.write_bytes(in_memory.getbuffer())


def seal(path: Path) -> None:
    """Put the checksum of a file that :func:`torch.save` wrote into its zip comment, which torch ignores.

    Raises
    ------
    ValueError
        The file is not a zip archive.
    """
    with path.open("rb+") as file:
        _seal(file, path)


def read_sealed(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`write_sealed` wrote, without running anything that the file names.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    The content, on the CPU.

    Raises
    ------
    UnreadableFileError
        The file was not written by :func:`write_sealed`, is incomplete, or was changed.
    """
    check_seal(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - torch raises many kinds
        # Not as the cause, because torch's message suggests running the code in the file.
        reason = "names code to run" if code_in(path) else f"cannot be read by torch ({type(error).__name__})"
        raise UnreadableFileError(f"{reason}, which petri-scvi does not write") from None
    if not isinstance(content, dict):
        raise UnreadableFileError(f"holds a {type(content).__name__} instead of a dictionary")
    return content


def check_seal(path: str | os.PathLike[str]) -> None:
    """Require that a file has a checksum that matches its content.

    Raises
    ------
    UnreadableFileError
        There is no checksum, or it does not match.
    """
    path = Path(path)
    if path.is_dir():
        raise UnreadableFileError("is a folder, not a file")
    length = len(SEAL) + N_DIGITS
    with path.open("rb") as file:
        n_bytes = file.seek(0, 2)
        file.seek(max(0, n_bytes - length))
        found = file.read()
        if len(found) < length or not found.startswith(SEAL):
            raise UnreadableFileError("has no checksum at its end: it is of another kind, or was cut short")
        if _checksum(file, n_bytes - N_DIGITS) != found[len(SEAL) :]:
            raise UnreadableFileError("was changed after it was written: its checksum does not match")


def code_in(path: str | os.PathLike[str]) -> list[str]:
    """Names of the code that unpickling a file would run, found without unpickling it; empty if there is none.

    Only archives of :func:`torch.save` are searched.
    """
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001 - anything may be in the file
        return []


def check_stored(weight: Any) -> torch.Tensor:
    """Require a tensor whose elements are all in the file and finite; a few bytes can claim to be a tensor of any size.

    Raises
    ------
    UnreadableFileError
        It is something else.
    """
    is_stored = (
        isinstance(weight, torch.Tensor)
        and weight.layout == torch.strided
        and weight.device.type == "cpu"
        and weight.numel() * weight.element_size() <= weight.untyped_storage().nbytes()
    )
    if not is_stored:
        raise UnreadableFileError("has weights that are not complete tensors")
    if not bool(torch.isfinite(weight).all()):
        raise UnreadableFileError("has weights that are NaN or infinite")
    return weight


def _seal(file: BinaryIO, path: Path) -> None:
    """As :func:`seal`, of an open file, or of one that will be at a path."""
    is_zip = zipfile.is_zipfile(file)
    file.seek(-len(EMPTY_COMMENT), 2)
    if not is_zip or file.read() != EMPTY_COMMENT:
        raise ValueError(f"{path} is not a zip archive without a comment; torch.save writes one by default.")
    file.seek(-len(EMPTY_COMMENT), 2)
    file.write((len(SEAL) + N_DIGITS).to_bytes(2, "little") + SEAL)
    n_bytes = file.tell()
    file.write(_checksum(file, n_bytes))


def _checksum(file: BinaryIO, n_bytes: int) -> bytes:
    """SHA-256 of the first bytes of a file, as hexadecimal digits; it ends where they end."""
    found = hashlib.sha256()
    file.flush()
    file.seek(0)
    while n_bytes > 0:
        chunk = file.read(min(CHUNK_BYTES, n_bytes))
        found.update(chunk)
        n_bytes -= len(chunk)
    return found.hexdigest().encode()
