"""The columns that every screen has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from petri_scvi._constants import CONTROL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


def standard_obs(
    names: Sequence[str] | pd.Index,
    *,
    target: ArrayLike,
    guide: ArrayLike,
    batch: ArrayLike,
    control: str,
    well: ArrayLike | None = None,
) -> pd.DataFrame:
    """``obs`` of a modality: ``perturbation``, ``guide``, ``target_gene``, ``is_control``, ``replicate`` and so on.

    Parameters
    ----------
    names
        Names of the cells.
    target, guide, batch
        One value per cell. The replicate is the batch.
    control
        Target of a non-targeting guide in the screen; becomes ``"non-targeting"``.
    well
        One value per cell; the batch if it is not recorded.
    """
    targets = np.asarray(target).astype(str)
    targets = np.where(targets == control, CONTROL, targets)
    batches = pd.Categorical(np.asarray(batch).astype(str))
    return pd.DataFrame(
        {
            "perturbation": pd.Categorical(targets),
            "guide": pd.Categorical(np.asarray(guide).astype(str)),
            "target_gene": pd.Categorical(targets),
            "is_control": targets == CONTROL,
            "replicate": batches,
            "well": batches if well is None else pd.Categorical(np.asarray(well).astype(str)),
            "batch": batches,
        },
        index=pd.Index(names).astype(str),
    )
