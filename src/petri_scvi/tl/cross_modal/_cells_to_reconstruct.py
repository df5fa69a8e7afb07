"""Choose the cells that a trained model reconstructs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from petri_scvi.common import rows_from_indices
from petri_scvi.common._labels import label_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels

N_LISTED = 20


class TrainedModel(Protocol):
    """The methods of a trained :class:`petri_scvi.PETRI` that the tools call."""

    adata: Any
    module: Any

    def get_var_names(self) -> Any:
        """Genes and channels of each modality."""

    def get_contexts(self, mdata: MuData | None = None, *, modality: str) -> NDArray[Any]:
        """Context of each cell."""

    def get_held_out_rows(self, mdata: MuData | None = None, *, modality: str) -> NDArray[np.integer]:
        """Cells that the model was not trained on."""

    def get_measurement(
        self, mdata: MuData | None = None, *, modality: str, indices: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """What was measured."""

    def get_reconstruction(
        self,
        mdata: MuData | None = None,
        *,
        modality: str,
        indices: Sequence[int] | None = None,
        mask: NDArray[np.bool_] | None = None,
        companions: Mapping[str, str | Sequence[str] | None] | None = None,
        seed: int = 0,
    ) -> Any:
        """Reconstruct masked cells."""


def other_modality(model: TrainedModel, modality: str, source: str | None = None) -> str:
    """The modality of the companions next to which cells of another one are reconstructed."""
    if not hasattr(model, "get_reconstruction"):
        raise TypeError(
            f"{type(model).__name__} does not reconstruct cells from others; pass a trained petri_scvi.PETRI."
        )
    names = list(model.get_var_names())
    if modality not in names:
        raise ValueError(f"modality={modality!r} is not one of the model's, {names}. Name one of these.")
    if len(names) < 2:
        raise ValueError(
            f"the model knows {names} only, so there is no other modality. Train it on images and expression: "
            "PETRI.setup_mudata(mdata) with a MuData that has both."
        )
    others = [name for name in names if name != modality]
    if source is None and len(others) == 1:
        return others[0]
    if source is None or source not in others:
        raise ValueError(
            f"source={source!r}; the cells of {modality!r} can be reconstructed next to those of one of {others}. Name "
            f"one: source={others[0]!r}."
        )
    return source


def check_kind(model: TrainedModel, modality: str, attribute: str, kind: str) -> None:
    """Require a modality of images, or of expression, whose network has an attribute that others lack."""
    if not hasattr(model.module.modality(modality), attribute):
        names = [name for name in model.get_var_names() if hasattr(model.module.modality(name), attribute)]
        raise ValueError(f"modality={modality!r} has no {kind}. Name a modality that has: {names}.")


def target_rows(
    model: TrainedModel, mdata: MuData | None, modality: str, indices: Sequence[int] | None
) -> NDArray[np.integer]:
    """Rows asked for; by default those that the model may be scored on."""
    if indices is None:
        return model.get_held_out_rows(mdata, modality=modality)
    n_cells = (model.adata if mdata is None else mdata).mod[modality].n_obs
    rows = rows_from_indices(indices, n_cells)
    if rows.size == 0:
        raise ValueError(f"indices names none of the {n_cells} cells of mdata[{modality!r}]; pass at least one.")
    return np.unique(rows)


def chosen_contexts(
    rows: NDArray[np.integer], contexts: NDArray[Any], wanted: Labels, *, where: str, argument: str
) -> NDArray[np.integer]:
    """Rows whose context is among those asked for."""
    names = label_list(wanted, argument)
    found = sorted(set(contexts[rows].tolist()))
    missing = sorted(set(names) - set(found))
    if missing:
        raise ValueError(
            f"contexts {missing} have no cell to reconstruct in {where}; there are {found[:N_LISTED]}"
            f"{' and more' if len(found) > N_LISTED else ''}. Name some of these, or pass indices with their cells."
        )
    return rows[np.isin(contexts[rows], names)]
