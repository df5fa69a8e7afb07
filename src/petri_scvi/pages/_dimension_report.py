"""A report of all dimensions, as a file to open in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import track

from petri_scvi._checks import check_sizes
from petri_scvi._constants import IMAGE, IMAGES_KEY, SAE_KEY
from petri_scvi.pages.contents._dimensions import Cards, example_cells
from petri_scvi.pages.contents._payload import Payload
from petri_scvi.pages.contents._sprites import Crops, add_crops
from petri_scvi.pl.concepts._dimension_results import DimensionResults
from petri_scvi.pl.images._montage import Montage, find_crops

from ._page import page_path, render, write_page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

MAX_PIXELS = 256
"""Larger crops are reduced: a card shows eight of them side by side."""
NO_LIMIT = 1e12
"""Bytes: all example crops are shown."""


def dimension_report(
    data: AnnData | MuData,
    path: str | Path,
    key: str = SAE_KEY,
    *,
    dimensions: Sequence[int] | None = None,
    n_top: int = 8,
    channels: Sequence[str | int] | None = None,
    modality: str = IMAGE,
    images_key: str = IMAGES_KEY,
    alpha: float = 0.05,
    min_activity: float = 0.1,
    max_activity: float = 0.9,
    progress: bool = True,
) -> Path:
    """Write one card per dimension to a single HTML file, searchable, that needs no server and no network.

    The cards are those of :func:`petri_scvi.pages.explorer`, which shows them beside the cells.

    Parameters
    ----------
    data
        Cells, as for :func:`petri_scvi.pl.dimension`.
    path
        File to write, for example ``"dimensions.html"``. It is replaced once the whole report has been written.
    key
        As in these calls.
    dimensions
        Dimensions to show, in this order, for example the index of the table of
        :func:`petri_scvi.tl.describe_dimensions`; by default all of which the activation differs between cells.
    n_top
        Genes, gene sets and image features to show, significant or not. The search finds all significant ones.
    channels, modality, images_key
        As in :func:`petri_scvi.pl.dimension`. A channel is black at its 1 % and bright at its 99.7 % quantile in 500
        example crops, in all cards alike.
    alpha
        Findings with larger q-values are pale, and the search leaves them out.
    min_activity, max_activity
        As in :func:`petri_scvi.tl.multimodal_dimensions`; the report can show multimodal dimensions alone.
    progress
        Show a progress bar.

    Returns
    -------
    The path.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.dimension_activity` has not been called.
    ValueError
        There is no such dimension or channel, or no dimension to show.
    FileNotFoundError
        The folder does not exist.
    """
    check_sizes(n_top=n_top)
    results = DimensionResults(data, key)
    is_active = results.is_active()
    wanted = np.flatnonzero(is_active).tolist() if dimensions is None else dimensions
    chosen = [results.check(number) for number in wanted]
    if len(chosen) == 0:
        raise ValueError(
            f"there is no dimension to show: dimensions={dimensions!r}, and {int(is_active.sum())} of "
            f"{results.n_dimensions} dimensions of {key!r} differ between cells. Pass some of their numbers."
        )
    cards = Cards(results, results.is_multimodal(min_activity, max_activity), n_top, alpha)
    target, payload = page_path(path), Payload()
    crops = _example_crops(data, example_cells(results, chosen), channels, modality, images_key)
    numbers_of = {} if crops is None else dict(zip(crops.montage.adata.obs_names[crops.rows], crops.cells, strict=True))
    written = [cards.card(number, numbers_of) for number in track(chosen, "Writing cards", disable=not progress)]
    of_cards = payload.json(written)
    meta: dict[str, Any] = {
        "title": f"{len(chosen)} dimensions of {key}",
        "views": ["dimensions", "about"],
        "start": {},
    }
    meta["dimensions"] = cards.described(written) | {"cards": of_cards}
    if crops is not None:
        size = min(max(crops.montage.images.shape[2:]), MAX_PIXELS)
        meta["crops"] = add_crops(payload, crops, NO_LIMIT, size, 0, lambda _: None)
    first, rest = payload.split({of_cards})
    write_page(target, render(meta, first=first, rest=rest))
    return target


def _example_crops(
    data: AnnData | MuData, names: list[str], channels: Sequence[str | int] | None, modality: str, images_key: str
) -> Crops | None:
    """Crops of named cells, all of them wanted; ``None`` if there are no images of any."""
    found = find_crops(data, channels=channels, modality=modality, images_key=images_key)
    if found is None:
        return None
    adata, images, positions, channel_names = found
    rows = adata.obs_names.get_indexer(names)
    rows = np.unique(rows[rows >= 0])
    if len(rows) == 0:
        return None
    montage = Montage(adata, images, {}, 0, True, positions, channel_names)
    everywhere = np.arange(len(rows))
    return Crops(montage, rows, everywhere, np.zeros_like(everywhere), np.ones(len(rows), dtype=bool))
