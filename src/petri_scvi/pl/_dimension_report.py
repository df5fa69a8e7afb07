"""A report of all dimensions, as a file to open in a browser."""

from __future__ import annotations

import base64
import io
import os
import re
import tempfile
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.image
import numpy as np
import pandas as pd
from rich.progress import track

from petri_scvi._checks import check_sizes
from petri_scvi._constants import IMAGE, IMAGES_KEY, SAE_KEY

from ._crop_pictures import intensity_range, join_pictures
from ._dimension_results import DimensionResults, example_montage
from ._montage import find_crops, read_rows
from ._report_page import FOOT, HEAD, MULTIMODAL, SCRIPT, STYLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from ._dimension_results import Dimension
    from ._montage import Montage

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
    target = Path(path)
    with _replacing(target) as file:
        file.write(cards.head(f"{len(chosen)} dimensions of {key}"))
        for number in track(chosen, "Writing cards", disable=not progress):
            file.write(cards.card(results.read(number)))
        file.write(FOOT.format(script=SCRIPT))
    return target


class _replacing:
    """A text file that takes its name once it is whole."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> io.TextIOWrapper:
        if not self.target.parent.is_dir():
            raise FileNotFoundError(f"the folder {self.target.parent} does not exist; make it first")
        handle, self.name = tempfile.mkstemp(dir=self.target.parent, prefix=f".{self.target.name}.", suffix=".part")
        self.file = open(handle, "w", encoding="utf-8")
        return self.file

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.file.close()
        if error is not None:
            os.unlink(self.name)
            return
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(self.name, 0o666 & ~mask)  # that of a file made by open; a temporary one is private
        os.replace(self.name, self.target)


class _Cards:
    """The HTML of cards."""

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

    def head(self, title: str) -> str:
        """Everything before the cards."""
        legend = ""
        if self._legend is not None:
            named = zip(self._legend.channel_names, self._legend.colours(), strict=True)
            legend = "".join(f'<span><i style="background:{c}"></i>{escape(_spaced(name))}</span>' for name, c in named)
        multimodal = MULTIMODAL if len(self.results.modalities) > 1 else ""
        return HEAD.format(title=escape(title), style=STYLE, legend=legend, multimodal=multimodal)

    def card(self, found: Dimension) -> str:
        """One dimension."""
        is_multimodal = ' data-multimodal="1"' if self._is_multimodal[found.number] else ""
        shares = [f"{share:.0%} of {'' if name == 'all' else name} cells" for name, share in found.active.items()]
        parts = [
            f'<article id="d{found.number}" data-text="{escape(self._text(found))}"{is_multimodal}>',
            f"<h2>Dimension {found.number}</h2>",
            f'<div class="soft">active in {escape(", ".join(" ".join(share.split()) for share in shares))}</div>',
            *self._crops(found),
            *self._perturbations(found),
        ]
        for kind, label in LABELS.items():
            if kind in found.findings:
                parts += [f"<h3>{label}</h3>", *self._findings(found, kind)]
        return "\n".join([*parts, "</article>\n"])

    def _text(self, found: Dimension) -> str:
        """What the search looks through."""
        top = found.perturbations.head(N_PERTURBATIONS)
        names = [f"dimension {found.number}", *top.index[(top > pd.Series(found.overall)).any(axis=1)]]
        for table in found.findings.values():
            names += list(table["name"][table["q_value"] <= self.alpha])
        return re.sub(r"[\s_\-]+", " ", " | ".join(map(str, names)).lower())

    def _crops(self, found: Dimension) -> Iterator[str]:
        montage = None
        if self._legend is not None:
            montage = example_montage(self.data, {"most": found.most, "least": found.least}, **self.images)
        if montage is None:
            return
        yield '<div class="crops">'
        pictures = montage.pictures(self._scale)
        widest = max(map(len, pictures.values()))
        for name, row in pictures.items():
            url, width = _data_url(row), 100 * len(row) / widest
            yield f'<span class="soft">{name}</span><img alt="cells with the {name} activation" '
            yield f'src="{url}" style="width:{width:.0f}%">'
        yield "</div>"

    def _perturbations(self, found: Dimension) -> Iterator[str]:
        top = found.perturbations.head(N_PERTURBATIONS)
        largest = found.perturbations.abs().max().replace(0, 1.0)
        key = _spaced(str(self.results.activity["parameters"]["perturbation_key"])).capitalize()
        marks = [
            f'<span><i class="m{i % 3}"></i>{escape(str(modality))}</span>'
            for i, modality in enumerate(top.columns)
            if modality != "all"
        ]
        yield f'<h3 class="legend">{escape(key)}s, mean activation {"".join(marks)}</h3><table>'
        for name, row in top.iterrows():
            yield f"<tr><td>{escape(str(name))}</td>"
            for i, modality in enumerate(top.columns):
                value = row[modality]
                text = "" if np.isnan(value) else f"{value:.3g}"
                width = 0 if np.isnan(value) else 100 * max(value, 0) / largest[modality]
                title = "" if modality == "all" else escape(str(modality))
                yield f'<td class="number" title="{title}">{text}</td>'
                yield f'<td class="bar" title="{title}"><div class="m{i % 3}" style="width:{width:.0f}%"></div></td>'
            yield "</tr>"
        yield "</table>"

    def _findings(self, found: Dimension, kind: str) -> Iterator[str]:
        top = found.findings[kind].head(self.n_top)
        if len(top) == 0:
            yield '<div class="none">none</div>'
            return
        largest = max(float(top["value"].abs().max()), 1e-12)
        yield "<table>"
        for row in top.itertuples():
            weak = "" if row.q_value <= self.alpha else ' class="weak"'
            value = f"{row.value:.1f}x" if kind == "gene_sets" else f"{row.value:+.2f}"
            side, width = ("down" if row.value < 0 else "up"), 100 * abs(row.value) / largest
            yield f'<tr{weak}><td>{escape(str(row.name))}</td><td class="number">{value}</td>'
            yield f'<td class="number">q {row.q_value:.1g}</td>'
            yield f'<td class="bar"><div class="{side}" style="width:{width:.0f}%"></div></td></tr>'
        yield "</table>"


def _data_url(row: NDArray[np.floating]) -> str:
    """Pictures side by side, as a PNG inside an address."""
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, join_pictures(row), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _spaced(name: str) -> str:
    return name.replace("_", " ")
