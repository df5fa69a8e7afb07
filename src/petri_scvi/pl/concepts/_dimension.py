"""All results about one dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from petri_scvi._constants import IMAGE, IMAGES_KEY, SAE_KEY
from petri_scvi.pl._axes import new_figure, plot
from petri_scvi.pl._colours import PALETTE, REFERENCE, palette

from ._dimension_results import N_PERTURBATIONS, DimensionResults, example_montage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

    from petri_scvi.pl._axes import Save

    from ._dimension_results import Dimension

UP, DOWN = "#c4532f", "#2f6fb0"
"""Colours of positive and negative correlations."""
LABELS = {"genes": "Genes", "gene_sets": "Gene sets", "image_features": "Image features"}
LONGEST_NAME = 30
BAR_WIDTH, LETTER_WIDTH = 1.9, 0.075
"""Inches of a panel, and of a letter of the names beside it."""
SMALLEST_Q = 1e-300


@plot
def dimension(
    data: AnnData | MuData,
    dimension: int,
    key: str = SAE_KEY,
    *,
    n_top: int = 8,
    channels: Sequence[str | int] | None = None,
    modality: str = IMAGE,
    images_key: str = IMAGES_KEY,
    alpha: float = 0.05,
    show: bool | None = None,
    save: Save = None,
) -> dict[str, Axes]:
    """Draw one dimension of an embedding: its most and least active crops, perturbations, genes, gene sets, features.

    Parameters
    ----------
    data
        Cells after :func:`petri_scvi.tl.dimension_activity` and any of :func:`petri_scvi.tl.dimension_genes`,
        :func:`petri_scvi.tl.dimension_gene_sets` and :func:`petri_scvi.tl.dimension_image_features`.
    dimension
        Number of the dimension, from 0.
    key
        As in these calls.
    n_top
        Genes, gene sets and image features to draw.
    channels
        Up to five channels, by name or position; by default the first five. The legend names them.
    modality, images_key
        Modality of a MuData and ``obsm`` slot that have the crops; only crops that are drawn are read.
    alpha
        Bars of findings with larger q-values are empty.
    show
        Display the figure and return ``None``. By default a new figure is displayed as ``sc.settings.autoshow`` says.
    save
        File to write. As in scanpy, ``True`` and a string such as ``"_a.pdf"`` write to ``sc.settings.figdir``, under
        the name of the function and this suffix; a path with a folder or a :class:`pathlib.Path` is taken as it is. By
        default a new figure is written as ``sc.settings.autosave`` says.

    Returns
    -------
    The axes of a new figure, which is then the current one of pyplot, by name: ``"crops"``, if there are images;
    ``"perturbations"``, the mean activation of the ten perturbations with the highest one, modalities having equal
    weight, with a dotted line at the mean of all cells; ``"genes"``, ``"gene_sets"`` and ``"image_features"``, as far
    as the tools have been called.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.dimension_activity` has not been called.
    ValueError
        There is no such dimension or channel.
    """
    results = DimensionResults(data, key)
    found = results.read(dimension)
    examples = {"most": found.most, "least": found.least}
    montage = example_montage(data, examples, channels=channels, modality=modality, images_key=images_key)
    kinds = [kind for kind in LABELS if kind in results.known]
    tables = {kind: found.findings[kind].head(n_top) for kind in kinds}
    names = [found.perturbations.index[:N_PERTURBATIONS], *(table["name"] for table in tables.values())]
    widths = [BAR_WIDTH + LETTER_WIDTH * min(max(map(len, part), default=0), LONGEST_NAME) for part in names]
    height = 0.6 + 0.2 * max(n_top, N_PERTURBATIONS)
    with new_figure(max(7.0, sum(widths)), height + (0.0 if montage is None else 2.6)) as figure:
        figure.set_layout_engine("constrained")  # compressed leaves no room for long names
        figure.suptitle(_title(found), fontsize="medium")
        axes = _lay_out(figure, montage is not None, dict(zip(["perturbations", *kinds], widths, strict=True)), height)
        if montage is not None:
            montage.draw(axes["crops"])
        _draw_perturbations(axes["perturbations"], found, results.activity["parameters"]["perturbation_key"])
        for kind in kinds:
            _draw_findings(axes[kind], tables[kind], kind, alpha)
            axes[kind].set_ylim(n_top - 0.4, -0.6)
    return axes


def _title(found: Dimension) -> str:
    shares = [f"{share:.0%} of {'cells' if name == 'all' else name + ' cells'}" for name, share in found.active.items()]
    return f"Dimension {found.number}, active in {' and '.join(shares)}"


def _lay_out(figure: Figure, has_crops: bool, widths: dict[str, float], height: float) -> dict[str, Axes]:
    axes: dict[str, Axes] = {}
    lower: Any = figure
    if has_crops:
        halves: Any = figure.subfigures(2, 1, height_ratios=(2.2, height))
        upper, lower = halves
        axes["crops"] = upper.subplots()
    # One figure per panel, so that long names take space from their own panel only.
    parts = np.atleast_1d(lower.subfigures(1, len(widths), width_ratios=list(widths.values())))
    for panel, part in zip(widths, parts, strict=True):
        axes[panel] = part.subplots()
    return axes


def _draw_perturbations(ax: Axes, found: Dimension, perturbation_key: str) -> None:
    top = found.perturbations.head(N_PERTURBATIONS)
    y = np.arange(len(top))
    for modality, colour in zip(top.columns, palette(len(top.columns)), strict=True):
        label = "all cells" if modality == "all" else str(modality)
        ax.scatter(top[modality], y, s=22, color=colour, linewidths=0, zorder=3, label=label)
        ax.axvline(found.overall[modality], color=colour, linestyle=":", linewidth=1)
    _name_rows(ax, list(top.index))
    ax.set(xlabel="Mean activation", title=f"{perturbation_key.replace('_', ' ').capitalize()}s")
    ax.margins(x=0.1)
    # Of the panel's figure: below the axes, its place would depend on how large the label under them is.
    options = {"fontsize": "small", "frameon": False, "columnspacing": 1.2, "handlelength": 1}
    ax.figure.legend(loc="outside lower center", ncols=2, **options)


def _draw_findings(ax: Axes, top: pd.DataFrame, kind: str, alpha: float) -> None:
    """Bars, the strongest on top."""
    is_set = kind == "gene_sets"
    values = top["value"].to_numpy(dtype=np.float64)
    if is_set:
        values = -np.log10(np.maximum(top["q_value"].to_numpy(dtype=np.float64), SMALLEST_Q))
    colours = [PALETTE[7] if is_set else UP if value > 0 else DOWN for value in values]
    is_hit = top["q_value"].to_numpy(dtype=np.float64) <= alpha
    faces = [colour if hit else "none" for colour, hit in zip(colours, is_hit, strict=True)]
    ax.barh(np.arange(len(top)), values, height=0.7, color=faces, edgecolor=colours, linewidth=0.8)
    ax.axvline(0, color=REFERENCE, linewidth=0.8)
    _name_rows(ax, list(top["name"]))
    ax.set(xlabel="-log10 q" if is_set else "Correlation", title=LABELS[kind])
    if len(top) == 0:
        ax.set(xticks=[])
        ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", va="center", color=REFERENCE)


def _name_rows(ax: Axes, names: list[str]) -> None:
    short = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]
    ax.set_yticks(np.arange(len(names)), short, fontsize="small")
    ax.set_ylim(max(len(names), 1) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.spines[["top", "right"]].set_visible(False)
