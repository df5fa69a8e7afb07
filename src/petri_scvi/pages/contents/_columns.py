"""What cells can be coloured by: columns of obs, genes, measured features and dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from scipy import sparse

from petri_scvi.pl._colours import stored_colours
from petri_scvi.pl.images._montage import natural

from ._cells import is_number
from ._payload import MISSING_BYTE, quantised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._cells import Cells
    from ._payload import Payload

MAX_CATEGORIES = 5000
TRUTH = "true_"
"""Columns that start so are not measured: simulated screens write what they put in, for example ``true_effect``."""
MIN_CELLS = 2
"""A column of more categories, or of fewer cells per category, names cells rather than groups of them."""


class Columns:
    """Columns of the page, and those that were left out.

    ``columns`` describes each for the page: ``id``, ``group``, ``label``, ``kind``, the name of its array, and what the
    array means. ``left_out`` names groups of others, and says why.
    """

    def __init__(self, payload: Payload, cells: Cells) -> None:
        self.payload, self.cells = payload, cells
        self.columns: list[dict[str, Any]] = []
        self.left_out: list[dict[str, Any]] = []

    def add_obs(self, first: Sequence[str]) -> None:
        """The modality, and all columns of obs: those that a page needs first."""
        kinds = np.array(self.cells.kinds, dtype=object)[self.cells.kind]
        main: pd.Series | None = None
        self._add_category("modality", "Modality", pd.Series(kinds), self.cells.kinds)
        every = self.cells.obs_names()
        unusable = []
        for name in [*first, *(name for name in every if name not in first)]:
            column = self.cells.column(name)
            if is_number(column) and name not in first:
                self._add_number("obs", name, column.to_numpy(dtype=np.float64))
                continue
            labels = self.cells.labels(name)
            categories = sorted(labels.dropna().unique(), key=natural)
            is_own = len(categories) > MAX_CATEGORIES or len(categories) * MIN_CELLS > max(labels.count(), 20)
            if is_own and name not in first:
                unusable.append(name)
                continue
            self._add_category(f"obs:{name}", name, labels, categories)
            if main is None and name in first:
                main = labels
            elif main is not None and labels.equals(main):
                self.columns[-1]["is_repeated"] = True  # target genes are often what perturbations are called
        for column in self.columns:
            column["is_truth"] = column["label"].startswith(TRUTH)
        if unusable:
            why = "Almost every cell has a label of its own"
            self.left_out.append({"group": "obs", "n": len(unusable), "names": unusable[:20], "why": why})

    def add_numbers(
        self,
        group: str,
        names: Sequence[str],
        matrix: Any,
        here: NDArray[np.intp],
        max_bytes: float,
        remedy: str,
    ) -> list[str]:
        """Columns of a matrix of some of the cells, as long as they fit; returns the names of those that did not."""
        start = self.payload.n_bytes
        by_column: Any = sparse.csc_matrix(matrix) if sparse.issparse(matrix) else np.asarray(matrix)
        for i, name in enumerate(names):
            part = by_column[:, [i]].toarray().ravel() if sparse.issparse(by_column) else by_column[:, i]
            full = np.full(len(self.cells), np.nan)
            full[here] = part
            self._add_number(group, str(name), full)
            if self.payload.n_bytes - start > max_bytes:
                self.payload.drop_last()
                self.columns.pop()
                left = [str(name) for name in names[i:]]
                self.left_out.append({"group": group, "n": len(left), "names": left[:20], "why": f"{remedy}."})
                return left
        return []

    def add_intensities(self, channels: Sequence[str], means: NDArray[np.float64], here: NDArray[np.intp]) -> None:
        """Mean intensity of each channel of the crops of some cells; a measured feature of the same name is kept."""
        names = {column["id"] for column in self.columns}
        for channel, part in zip(channels, means.T, strict=True):
            label = f"{channel}, mean intensity"
            if f"feature:{label}" not in names:
                full = np.full(len(self.cells), np.nan)
                full[here] = part
                self._add_number("feature", label, full)
                self.columns[-1]["channel"] = channel

    def _add_number(self, group: str, label: str, values: NDArray[np.float64]) -> None:
        codes, meaning = quantised(values)
        entry = {"id": f"{group}:{label}", "group": group, "label": label, "kind": "number"}
        self.columns.append(entry | meaning | {"data": self.payload.array(codes)})

    def _add_category(self, name: str, label: str, labels: pd.Series, categories: Sequence[str]) -> None:
        codes = pd.Categorical(labels, categories=categories).codes.astype(np.int64)
        is_small = len(categories) < MISSING_BYTE
        codes[codes < 0] = MISSING_BYTE if is_small else 2**16 - 1
        owners = [self.cells.data, *self.cells.parts.values()]
        colour_of = stored_colours(list(categories), label, *owners)
        self.columns.append(
            {
                "id": name,
                "group": "obs",
                "label": label,
                "kind": "category",
                "categories": [str(category) for category in categories],
                "colours": [to_hex(colour_of[category]) for category in categories] if colour_of else None,
                "type": "u1" if is_small else "u2",
                "data": self.payload.array(codes.astype(np.uint8 if is_small else np.uint16)),
            }
        )
