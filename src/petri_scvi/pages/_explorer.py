"""The cells of a screen as one page for a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from rich.progress import Progress, TimeElapsedColumn

from petri_scvi._checks import check_seed, check_sizes
from petri_scvi._constants import CONTEXT_KEY, CONTROL, EMBEDDING_KEY, IMAGE, IMAGES_KEY, RNA, SAE_KEY
from petri_scvi.common import in_markup
from petri_scvi.common._warn import warn
from petri_scvi.pages.contents._cells import all_cells, spread_evenly
from petri_scvi.pages.contents._contents import Contents
from petri_scvi.pages.contents._map import coordinates, find_space

from ._inline import InlinePage
from ._page import page_path, render, write_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels
    from petri_scvi.pages.contents._cells import Cells
    from petri_scvi.tl.scores._edges import EdgeTable

SCREENS = ("synthetic_screen", "semisynthetic_screen", "olfactory_bulb")
"""Slots of ``uns`` that say what a screen of :mod:`petri_scvi.datasets` is."""


@overload
def explorer(data: AnnData | MuData, key: str = ..., *, path: str | Path, **settings: Any) -> Path: ...


@overload
def explorer(data: AnnData | MuData, key: str = ..., *, path: None = ..., **settings: Any) -> InlinePage: ...


def explorer(  # type: ignore[misc]  # the overloads leave the other arguments open
    data: AnnData | MuData,
    key: str = EMBEDDING_KEY,
    *,
    path: str | Path | None = None,
    basis: str = "X_umap",
    color: str | None = None,
    perturbation_key: str | None = CONTEXT_KEY,
    guide_key: str = "guide",
    replicate_key: str | None = "replicate",
    control: Labels | None = CONTROL,
    edges: EdgeTable | None = None,
    guide_model: AnnData | None = None,
    genes: Sequence[str] | None = None,
    layer: str | None = None,
    is_normalized: bool = False,
    features_key: str = "image_features",
    sae_key: str = SAE_KEY,
    channels: Sequence[str | int] | None = None,
    crop_size: int = 64,
    modalities: tuple[str, str] = (IMAGE, RNA),
    images_key: str = IMAGES_KEY,
    title: str | None = None,
    max_cells: int = 200_000,
    max_megabytes: float = 40,
    seed: int = 0,
    progress: bool = True,
) -> Path | InlinePage:
    """Write a screen as one HTML file to look at: it needs no server and no network, and can be sent to a colleague.

    Without ``path``, a notebook shows the page.

    Parameters
    ----------
    data
        Cells of a screen.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``: of the MuData, or of the only modality that has it.
    path
        File to write, for example ``"explorer.html"``. It is replaced once the whole page has been written. ``None``
        shows the page in a notebook.
    basis
        ``obsm`` slot of two coordinates per cell. If it is missing, :func:`scanpy.tl.umap` makes it from the embedding,
        for the page alone; store it to write a page again in less time.
    color
        What cells are coloured by when the page opens: an ``obs`` column, a gene, a feature; the perturbation if
        ``None``.
    perturbation_key
        ``obs`` column of the perturbation; ``None`` if there is none.
    guide_key
        ``obs`` column of the guide; without it, guides are not shown.
    replicate_key
        ``obs`` column of the replicate, in which profiles are scaled on its controls; all cells together if ``None``.
    control
        Value of ``perturbation_key`` that marks controls, or several, or ``None`` if there are none; perturbations are
        then not compared.
    edges
        Known pairs of perturbations to show, as in :func:`petri_scvi.tl.edge_recall`.
    guide_model
        What :func:`petri_scvi.tl.guide_model` returned, to show which guides work.
    genes
        Genes to colour cells by; by default those that are perturbed, those that perturbations change and then the
        most variable ones, as many as fit; ``[]`` for a page without expression.
    layer
        Layer with the counts; ``X`` if ``None``.
    is_normalized
        Whether the expression is log-normalised already.
    features_key
        ``obsm`` slot of measurements of the cells, a DataFrame, such as those of :func:`petri_scvi.tl.image_features`.
    sae_key
        ``obsm`` slot of the activations of a sparse autoencoder, next to the embedding. After
        :func:`petri_scvi.tl.dimension_activity`, the page also has the cards of
        :func:`petri_scvi.pages.dimension_report`.
    channels
        Up to five channels of the crops, by name or position; by default the first five.
    crop_size
        Larger crops are reduced to this many pixels, by averaging.
    modalities
        Modalities of a MuData that have the images and the expression. Of others, cells are shown with their
        perturbations and profiles, without values. A modality of features has no crops and may be the first one; name
        its table as ``features_key``.
    images_key
        ``obsm`` slot of the crops, shape ``(n_cells, C, H, W)``, in memory or on disk.
    title
        Title of the page, such as the name of the screen; by default its modalities and ``key``.
    max_cells
        Of more cells a sample is shown: as many of each perturbation and modality, or all if it has fewer.
    max_megabytes
        Size of the file. Genes, features and dimensions take up to 40 % of it, crops the rest; of more crops than fit a
        sample is kept, as many of each perturbation. The page says what was left out.
    seed
        Seed of the samples and of the UMAP.
    progress
        Show a progress bar.

    Returns
    -------
    The path. Without one, a :class:`petri_scvi.pages.InlinePage`: notebooks show it; ``selection`` has the names of the
    cells that are chosen in it if anywidget is installed, and ``save`` writes it to a file.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    KeyError
        A slot, column, gene or channel is missing.
    ValueError
        Modalities have separate embeddings, no cell has finite coordinates, a label of ``control`` does not occur, or
        the expression is neither counts nor said to be log-normalised.

    Warns
    -----
    UserWarning
        Cells are left out because their embedding is NaN or infinite, or the UMAP was made from another embedding.

    Notes
    -----
    Profiles of perturbations are means over all cells, centered, scaled, whitened and averaged as in
    :func:`petri_scvi.tl.score_screen`, and compared by their cosine. Their strength is that of
    :func:`petri_scvi.tl.perturbation_strength`, and the scores those of :func:`petri_scvi.tl.score_screen`, if these
    were called before.

    Genes are shown as ``log2(1 + normalised counts)`` and compared by differences of its mean. Those that perturbations
    change are found with :func:`scanpy.tl.rank_genes_groups` with an overestimated variance, each perturbation against
    the controls. A cell's own genes are those furthest above the mean of all cells. The gene that a perturbation
    targets is the one of its name, or that of ``obs["target_gene"]``.
    """
    check_sizes(max_cells=max_cells, crop_size=crop_size)
    check_seed(seed)
    target = None if path is None else page_path(path)
    space, name = find_space(data, key, basis)
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())  # the UMAP does not say how far it is
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("Laying out cells", total=100)

        def advance(to: float, what: str) -> None:
            bar.update(task, completed=to, description=what, refresh=to == 100)  # notebooks do not draw the end

        def laid_out(share: float, what: str) -> None:
            advance(25 * share, what)

        every = all_cells(space, name)
        cells, points = _on_map(every, key, basis, perturbation_key, max_cells, seed, laid_out)
        advance(25, "Packing columns")
        contents = Contents(cells, np.bincount(every.kind, minlength=len(every.kinds)), max_megabytes * 1e6)
        contents.add_points(points, basis if basis in space.obsm else f"UMAP of {key}")
        contents.add_labels(perturbation_key, guide_key, control)
        contents.add_scores()
        contents.add_profiles(every, key, perturbation_key, guide_key, replicate_key, edges, guide_model, seed)
        contents.add_features(features_key)
        contents.add_dimensions(sae_key)
        contents.add_genes(modalities[1], genes, layer, is_normalized)
        advance(50, "Packing crops")
        image = modalities[0]
        contents.add_images(image, images_key, channels, crop_size, seed, lambda s: bar.advance(task, 45 * s))
        meta = contents.meta | {
            "title": title or _title(data, cells, key),
            "views": contents.views,
            "columns": contents.columns.columns,
            "left_out": contents.columns.left_out,
            "start": contents.start(color, key),
        }
        opening = {meta["cells"]["x"], meta["cells"]["y"], *_arrays_of(meta, ["modality", meta["start"]["color"]])}
        first, rest = contents.payload.split(opening)
        pieces = render(meta, first=first, rest=rest)
        if target is None:
            advance(100, "Ready")
            return InlinePage("".join(pieces), meta["title"])
        write_page(target, pieces)
        advance(100, f"Written to {in_markup(target)}")
    return target


def _arrays_of(meta: dict[str, Any], ids: Sequence[str]) -> list[str]:
    return [column["data"] for column in meta["columns"] if column["id"] in ids]


def _title(data: AnnData | MuData, cells: Cells, key: str) -> str:
    """The screen, if it is one of the package, or its modalities, and the embedding."""
    screens = [name.replace("_", " ").capitalize() for name in SCREENS if name in data.uns]
    return f"{screens[0] if screens else ' and '.join(filter(None, cells.kinds))}, {key}"


def _on_map(
    cells: Cells,
    key: str,
    basis: str,
    perturbation_key: str | None,
    max_cells: int,
    seed: int,
    advance: Callable[[float, str], None],
) -> tuple[Cells, NDArray[np.float64]]:
    """The cells that are shown and where, at most ``max_cells``: as many of each perturbation and modality."""
    groups = cells.kind
    if perturbation_key is not None:
        groups = (cells.labels(perturbation_key).factorize()[0] + 1) * len(cells.kinds) + cells.kind
    cells = cells.take(spread_evenly(groups, max_cells, np.random.default_rng(seed)))
    points = coordinates(cells, key, basis, seed, advance)
    is_placed = np.isfinite(points).all(axis=1)
    if not is_placed.any():
        raise ValueError(f"no cell has finite values in obsm[{(basis if basis in cells.data.obsm else key)!r}]")
    if not is_placed.all():
        warn(f"{int((~is_placed).sum())} cells are NaN or infinite in the embedding; they are left out of the page")
    return cells.take(np.flatnonzero(is_placed)), points[is_placed]
