"""A report of all dimensions, as a file to open in a browser."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib.image
import numpy as np
import pandas as pd
from rich.progress import track

from petri_scvi._checks import check_sizes
from petri_scvi._constants import IMAGE, IMAGES_KEY, SAE_KEY
from petri_scvi.common import written_whole
from petri_scvi.pl.concepts._dimension_results import DimensionResults, example_montage
from petri_scvi.pl.images._crop_pictures import intensity_range, join_pictures
from petri_scvi.pl.images._montage import find_crops, read_rows

from ._page import TEMPLATES, page_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.pl.concepts._dimension_results import Dimension
    from petri_scvi.pl.images._montage import Montage

LABELS = {"image_features": "Image features", "gene_sets": "Gene sets", "genes": "Genes"}
N_PERTURBATIONS = 5
N_FOR_RANGE = 200
"""Crops that say what is black and what is bright."""


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
    """Write a report with one card per dimension: a single HTML file, searchable, that needs no server and no network.

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
        :func:`petri_scvi.tl.describe_dimensions`; by default all of which the activation differs between cells. A card
        takes about 20 kB with crops of 32 x 32 pixels.
    n_top
        Genes, gene sets and image features to show, significant or not. The search finds all significant ones.
    channels, modality, images_key
        As in :func:`petri_scvi.pl.dimension`. A channel is black at its 1 % and bright at its 99.7 % quantile in 200
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
    images = {"channels": channels, "modality": modality, "images_key": images_key}
    cards = _Cards(data, results, results.is_multimodal(min_activity, max_activity), n_top, alpha, images)
    target = page_path(path)
    shown = (cards.card(results.read(number)) for number in track(chosen, "Writing cards", disable=not progress))
    page = TEMPLATES.get_template("dimension_report.html")
    with written_whole(target) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        # Piece by piece, so that memory holds the pictures of one card.
        file.writelines(
            page.generate(
                title=f"{len(chosen)} dimensions of {key}",
                legend=cards.legend(),
                has_modalities=len(results.modalities) > 1,
                cards=shown,
            )
        )
    return target


class _Cards:
    """What the template shows of each dimension: texts and widths, which it escapes and puts in their places."""

    def __init__(
        self,
        data: AnnData | MuData,
        results: DimensionResults,
        is_multimodal: NDArray[np.bool_],
        n_top: int,
        alpha: float,
        images: dict[str, Any],
    ) -> None:
        self.data, self.results, self.n_top, self.alpha, self.images = data, results, n_top, alpha, images
        self._is_multimodal = is_multimodal
        self._legend: Montage | None = None
        found = find_crops(data, **images)
        if found is not None:
            adata, crops, positions, _ = found
            rows = np.linspace(0, adata.n_obs - 1, min(N_FOR_RANGE, adata.n_obs)).astype(np.intp)
            self._scale = intensity_range(read_rows(crops, rows)[:, positions])
            self._legend = example_montage(data, {"": [str(adata.obs_names[0])]}, **images)

    def legend(self) -> list[tuple[str, str]]:
        """Names and colours of the channels."""
        if self._legend is None:
            return []
        return [(_spaced(n), c) for n, c in zip(self._legend.channel_names, self._legend.colours(), strict=True)]

    def card(self, found: Dimension) -> dict[str, Any]:
        """One dimension."""
        shares = [f"{share:.0%} of {'' if name == 'all' else name} cells" for name, share in found.active.items()]
        modalities = enumerate(map(str, found.perturbations.columns))
        return {
            "number": found.number,
            "text": self._text(found),
            "is_multimodal": bool(self._is_multimodal[found.number]),
            "shares": ", ".join(" ".join(share.split()) for share in shares),
            "crops": self._crops(found),
            "perturbation_key": _spaced(str(self.results.activity["parameters"]["perturbation_key"])).capitalize(),
            "modalities": [(name, f"m{i % 3}") for i, name in modalities if name != "all"],
            "perturbations": list(_perturbations(found)),
            "findings": [
                (label, self._findings(found, kind)) for kind, label in LABELS.items() if kind in found.findings
            ],
        }

    def _text(self, found: Dimension) -> str:
        """What the search looks through."""
        top = found.perturbations.head(N_PERTURBATIONS)
        names = [f"dimension {found.number}", *top.index[(top > pd.Series(found.overall)).any(axis=1)]]
        for table in found.findings.values():
            names += list(table["name"][table["q_value"] <= self.alpha])
        return re.sub(r"[\s_\-]+", " ", " | ".join(map(str, names)).lower())

    def _crops(self, found: Dimension) -> list[dict[str, str]]:
        montage = None
        if self._legend is not None:
            montage = example_montage(self.data, {"most": found.most, "least": found.least}, **self.images)
        if montage is None:
            return []
        pictures = montage.pictures(self._scale)
        widest = max(map(len, pictures.values()))
        return [
            {"name": name, "url": _data_url(row), "width": f"{100 * len(row) / widest:.0f}%"}
            for name, row in pictures.items()
        ]

    def _findings(self, found: Dimension, kind: str) -> list[dict[str, Any]]:
        top = found.findings[kind].head(self.n_top)
        largest = max(float(top["value"].abs().max()), 1e-12) if len(top) else 1.0
        return [
            {
                "name": row.name,
                "is_weak": not row.q_value <= self.alpha,
                "value": f"{row.value:.1f}x" if kind == "gene_sets" else f"{row.value:+.2f}",
                "q_value": f"{row.q_value:.1g}",
                "side": "down" if row.value < 0 else "up",
                "width": f"{100 * abs(row.value) / largest:.0f}%",
            }
            for row in top.itertuples()
        ]


def _perturbations(found: Dimension) -> Iterator[dict[str, Any]]:
    """Rows of the table: a bar of each modality."""
    top = found.perturbations.head(N_PERTURBATIONS)
    largest = found.perturbations.abs().max().replace(0, 1.0)
    for name, row in top.iterrows():
        bars = []
        for i, modality in enumerate(top.columns):
            value = row[modality]
            width = 0 if np.isnan(value) else 100 * max(value, 0) / largest[modality]
            bars.append(
                {
                    "title": "" if modality == "all" else str(modality),
                    "value": "" if np.isnan(value) else f"{value:.3g}",
                    "mark": f"m{i % 3}",
                    "width": f"{width:.0f}%",
                }
            )
        yield {"name": str(name), "bars": bars}


def _data_url(row: NDArray[np.floating]) -> str:
    """Pictures side by side, as a PNG inside an address."""
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, join_pictures(row), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _spaced(name: str) -> str:
    return name.replace("_", " ")
