"""Cards of dimensions: what the tools found, as numbers and names that the page draws."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._constants import UNS_KEY
from petri_scvi.pl.concepts._dimension_results import DimensionResults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.pl.concepts._dimension_results import Dimension

    from ._cells import Cells

N_PERTURBATIONS = 5
N_STRONGEST = 6
"""Dimensions that are listed for a perturbation."""


class Cards:
    """One card per dimension.

    Parameters
    ----------
    results
        What the tools wrote.
    is_multimodal
        Whether each dimension counts as multimodal.
    n_top
        Findings of each kind to show.
    alpha
        Findings with larger q-values are pale, and the search leaves them out.
    """

    def __init__(self, results: DimensionResults, is_multimodal: NDArray[np.bool_], n_top: int, alpha: float) -> None:
        self.results, self.n_top, self.alpha = results, n_top, alpha
        self._is_multimodal = is_multimodal

    def described(self, cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the page has to know beside the cards."""
        parameters = self.results.activity["parameters"]
        return {
            "key": self.results.key,
            "modalities": self.results.modalities,
            "perturbation_key": str(parameters["perturbation_key"]),
            "known": self.results.known,
            "alpha": self.alpha,
            "n": len(cards),
        }

    def card(self, number: int, numbers_of: dict[str, int]) -> dict[str, Any]:
        """One dimension; ``numbers_of`` says which number a cell has on the page."""
        found = self.results.read(number)
        top = found.perturbations.head(N_PERTURBATIONS)
        return {
            "number": number,
            "text": self._text(found),
            "is_multimodal": bool(self._is_multimodal[number]),
            "active": found.active,
            "perturbations": [[str(name), row.tolist()] for name, row in zip(top.index, top.to_numpy(), strict=True)],
            "largest": found.perturbations.abs().max().tolist(),
            "most": [numbers_of[cell] for cell in found.most if cell in numbers_of],
            "least": [numbers_of[cell] for cell in found.least if cell in numbers_of],
            "findings": {kind: self._top(table) for kind, table in found.findings.items()},
        }

    def _top(self, table: pd.DataFrame) -> list[list[Any]]:
        return table.head(self.n_top)[["name", "value", "q_value"]].to_numpy(dtype=object).tolist()

    def _text(self, found: Dimension) -> str:
        """What the search looks through."""
        top = found.perturbations.head(N_PERTURBATIONS)
        names = [f"dimension {found.number}", *top.index[(top > pd.Series(found.overall)).any(axis=1)]]
        for table in found.findings.values():
            names += list(table["name"][table["q_value"] <= self.alpha])
        return re.sub(r"[\s_\-]+", " ", " | ".join(map(str, names)).lower())

    def strongest(self, shown: Sequence[int]) -> dict[str, list[list[Any]]]:
        """Of each perturbation, the dimensions that are furthest above those of other perturbations.

        Each with its height: standard deviations over perturbations above their mean, per modality.
        """
        heights = []
        for modality in self.results.modalities:
            means = np.asarray(self.results.activity["mean"][modality], dtype=np.float64)[:, shown]
            is_known = np.isfinite(means).all(axis=1)
            center, spread = means[is_known].mean(axis=0), means[is_known].std(axis=0)
            heights.append((means - center) / np.where(spread > 0, spread, np.inf))
        of_all = np.nan_to_num(np.stack(heights))  # (n_modalities, n_perturbations, n_shown)
        mean = of_all.mean(axis=0)
        best = np.argsort(-mean, axis=1, kind="stable")[:, :N_STRONGEST]
        return {
            str(name): [[int(shown[j]), *of_all[:, i, j].tolist()] for j in best[i] if mean[i, j] > 0]
            for i, name in enumerate(np.asarray(self.results.activity["perturbations"]).astype(str))
        }


def dimension_results(data: AnnData | MuData, key: str) -> DimensionResults | None:
    """Results about dimensions, if :func:`petri_scvi.tl.dimension_activity` was called."""
    return DimensionResults(data, key) if f"dimension_activity_{key}" in data.uns.get(UNS_KEY, {}) else None


def example_cells(results: DimensionResults, numbers: Sequence[int]) -> list[str]:
    """Names of the example cells of dimensions, each once."""
    ends = [np.asarray(results.activity[end])[list(numbers)].ravel().astype(str) for end in ("most", "least")]
    return [name for name in dict.fromkeys(np.concatenate(ends).tolist()) if name]


def cell_numbers(cells: Cells, modality: str) -> dict[str, int]:
    """Position on the page of the cells of a modality, by their name there."""
    here, rows = cells.measured(modality)
    names = cells.parts[modality].obs_names.to_numpy(dtype=np.str_)[rows]
    return dict(zip(names.tolist(), here.tolist(), strict=True))
