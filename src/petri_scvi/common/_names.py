"""Names chosen by users in file names, markup and plots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from petri_scvi.common._storable import FORBIDDEN

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

N_LISTED = 5
"""Names that a message lists of many."""


def user_path(path: str | os.PathLike[str]) -> Path:
    """Path given by a user, with ``~`` expanded to the home folder."""
    return Path(path).expanduser()


def check_file_name(name: str, argument: str, value: str) -> None:
    """Require a name without folders.

    Parameters
    ----------
    name
        Name of the file.
    argument, value
        What the user passed, for the message.

    Raises
    ------
    ValueError
        The file would lie in another folder.
    """
    if name in ("", ".", "..") or any(character in name for character in FORBIDDEN):
        raise ValueError(
            f"{argument}={value!r} would write to another folder: {name!r} is not the name of a file. Leave out '/', "
            "'\\' and null characters."
        )


def first_names(names: Sequence[object] | NDArray[Any]) -> str:
    """The first of many names, as a message lists them."""
    more = ", ..." if len(names) > N_LISTED else ""
    return f"{', '.join(map(str, names[:N_LISTED]))}{more}"


def in_markup(name: object) -> str:
    """Escape a name so that rich prints it literally; otherwise ``[`` begins a style."""
    return escape(str(name))
