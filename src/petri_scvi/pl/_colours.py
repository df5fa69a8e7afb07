"""Colours that are distinguishable with red-green colour blindness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.colors import is_color_like

from petri_scvi.common._labels import as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9")
"""Colours of groups, in order; seaborn's palette ``colorblind``."""
REFERENCE = "0.45"
"""Grey of chance levels and other lines to compare with."""
BACKGROUND = "0.85"
"""Grey of cells that are in none of the drawn groups."""
DIVERGING = "RdBu_r"
"""Colour map of signed values: blue below 0, white at 0, red above."""


def palette(n: int) -> list[str]:
    """The given number of colours; they repeat after ten."""
    return [PALETTE[i % len(PALETTE)] for i in range(n)]


def group_colours(groups: Sequence[str], group_key: str, *owners: AnnData | MuData) -> dict[str, str]:
    """Colour of each group: that of ``uns[f"{group_key}_colors"]`` where scanpy or the user stored it."""
    return stored_colours(groups, group_key, *owners) or dict(zip(groups, palette(len(groups)), strict=True))


def stored_colours(groups: Sequence[str], group_key: str, *owners: AnnData | MuData) -> dict[str, str] | None:
    """Colour of each group in ``uns[f"{group_key}_colors"]`` of the first owner that has one for all."""
    for owner in owners:
        stored = owner.uns.get(f"{group_key}_colors")
        column = owner.obs.get(group_key)
        if stored is None or column is None or not isinstance(column.dtype, pd.CategoricalDtype):
            continue
        colour_of = dict(zip(as_text(pd.Series(column.cat.categories)), map(str, stored), strict=False))
        if all(group in colour_of and is_color_like(colour_of[group]) for group in groups):
            return {group: colour_of[group] for group in groups}
    return None
