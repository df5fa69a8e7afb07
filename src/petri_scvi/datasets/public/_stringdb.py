"""Physical interactions of STRING, as gene symbols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from petri_scvi.datasets.cache._fetch import fetch
from petri_scvi.datasets.cache._registry import STRINGDB

if TYPE_CHECKING:
    from pathlib import Path


def stringdb(organism: Literal["human", "mouse"] = "human", *, cache_dir: str | Path | None = None) -> pd.DataFrame:
    """Load known physical interactions between human proteins from STRING :cite:p:`Szklarczyk2023`.

    Parameters
    ----------
    organism
        Spelling of the symbols: ``"human"`` (TOMM20) or ``"mouse"`` (Tomm20). The interactions are the human ones in
        both cases; mouse genes whose symbol differs by more than case (Trp53) do not appear under their mouse name.
    cache_dir
        Folder to look in first. ``None`` means the folder named by ``PETRI_SCVI_CACHE``, if any; then the user's cache.

    Returns
    -------
    One row per unordered pair: ``entity1`` and ``entity2``, in alphabetical order; 58,059 rows, no scores.

    Raises
    ------
    FileNotFoundError
        The file is not in the cache and cannot be downloaded.
    ValueError
        ``organism`` is neither of the two, or the file is damaged.

    Notes
    -----
    The table is the selection of the EFAAR benchmarks (:cite:t:`Celik2024`; 1.4 MB, CC BY 4.0). Repeated pairs are
    removed.
    """
    if organism not in ("human", "mouse"):
        raise ValueError(f"organism={organism!r} is not accepted; pass 'human' or 'mouse'")
    table = pd.read_csv(fetch(STRINGDB, cache_dir), dtype=str, keep_default_na=False)
    pairs = np.sort(table[["entity1", "entity2"]].to_numpy(dtype=str), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    if organism == "mouse":
        pairs = np.char.capitalize(pairs)
    return pd.DataFrame(pairs, columns=["entity1", "entity2"])
