"""Join several labels into one name, unambiguously."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from petri_scvi.common._labels import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def joined_labels(columns: Iterable[Iterable[object]], separator: str) -> NDArray[np.object_]:
    r"""Join the labels of each row into one name.

    The separator's character and backslashes within labels are escaped with a backslash. So ``("a+b", "c")`` and
    ``("a", "b+c")`` stay two names, ``"a\+b+c"`` and ``"a+b\+c"``, and other labels are unchanged: ``"a+c"``.

    Parameters
    ----------
    columns
        Labels of each row, compared as text; one iterable per column, all of one length.
    separator
        One character, with or without blanks around it.

    Returns
    -------
    Names, shape ``(n_rows,)``.
    """
    mark = separator.strip()
    escaped = [[_escaped(str(label), mark) for label in column] for column in columns]
    names = np.empty(len(escaped[0]) if escaped else 0, dtype=object)
    names[:] = [separator.join(row) for row in zip(*escaped, strict=True)]
    return names


def joined_columns(columns: pd.DataFrame, separator: str) -> pd.Series:
    """Join the labels of each row of a table as :func:`joined_labels`; a single column stays as it is, as text.

    The result has the table's index, and is missing where one of the labels is.
    """
    texts = [as_text(columns.iloc[:, i]) for i in range(columns.shape[1])]
    if len(texts) == 1:
        return texts[0]
    is_there = pd.concat(texts, axis=1).notna().all(axis=1)
    found = pd.Series(None, index=columns.index, dtype=object)
    found[is_there] = joined_labels([text[is_there] for text in texts], separator)
    return found


def split_labels(name: str, separator: str) -> list[str]:
    """Labels that :func:`joined_labels` joined into a name."""
    labels, place = [""], 0
    while place < len(name):
        if name[place] == "\\":  # the next character is escaped
            labels[-1] += name[place + 1]
            place += 2
        elif name.startswith(separator, place):
            labels.append("")
            place += len(separator)
        else:
            labels[-1] += name[place]
            place += 1
    return labels


def _escaped(label: str, mark: str) -> str:
    return label.replace("\\", "\\\\").replace(mark, f"\\{mark}")
