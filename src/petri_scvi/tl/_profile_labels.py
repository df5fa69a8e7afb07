"""Target genes of profiles, and which profiles are those of controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from petri_scvi.common._labels import check_controls, read_labels
from petri_scvi.common._warn import warn

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from petri_scvi.common._labels import Labels

WHERE = "profiles.obs"
NO_CONTROLS = ", or pass control=None if there are no controls among the profiles."


def read_targets(profiles: AnnData) -> pd.Series:
    """Target gene of each profile as text; ``None`` where it is missing, with a warning."""
    if "target_gene" not in profiles.obs:
        raise KeyError(
            f"profiles.obs has no 'target_gene'; it has {list(profiles.obs.columns)}. Make the profiles with "
            "petri_scvi.tl.aggregate_profiles."
        )
    targets = read_labels(profiles.obs, "target_gene", WHERE)
    n_missing = int(targets.isna().sum())
    if n_missing:
        warn(
            f"{n_missing} of {len(targets)} profiles have no target_gene, for example "
            f"{targets.index[targets.isna()][0]!r}; they are left out"
        )
    return targets


def profile_controls(targets: pd.Series, control: Labels | None) -> list[str]:
    """Labels of controls as text, each of which must occur; empty if there are no controls."""
    if control is None:
        return []
    return check_controls({f"{WHERE}['target_gene']": targets}, control, remedy=NO_CONTROLS)
