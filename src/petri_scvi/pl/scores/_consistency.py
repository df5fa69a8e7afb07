"""Consistency of guides and of replicates against the null."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi.pl._axes import open_axes, plot
from petri_scvi.pl._results import key_argument, read_result, read_score, slot_argument

from ._ranking import HEIGHT, WIDTH, choose_modality, draw_ranking, ranking_table

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

    from petri_scvi.pl._axes import Save

NULL = ("null_mean", "null_95")


@plot
def guide_consistency(
    profiles: AnnData,
    *,
    key: str = "guide_consistency",
    n_labels: int = 10,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot the similarity of the guides of each gene in ascending order, with the null of guides of different genes.

    Parameters
    ----------
    profiles
        Profiles that :func:`petri_scvi.tl.guide_consistency` scored.
    key
        Name of the result, its ``key_added``.
    n_labels
        Consistent genes to name, the most similar first, as many as fit.
    ax
        Axes to draw on; a new figure if ``None``.
    show
        Display the figure and return ``None``. By default a new figure is displayed as ``sc.settings.autoshow`` says.
    save
        File to write. As in scanpy, ``True`` and a string such as ``"_a.pdf"`` write to ``sc.settings.figdir``, under
        the name of the function and this suffix; a path with a folder or a :class:`pathlib.Path` is taken as it is. By
        default a new figure is written as ``sc.settings.autosave`` says.

    Returns
    -------
    The axes: one point per gene, filled if consistent; mean and 95 % quantile of the null of each gene; the score and
    its 95 % interval in the title.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.guide_consistency` has not been called.
    """
    call = f"guide_consistency(profiles{key_argument(key, 'guide_consistency')})"
    result = read_result(profiles, key, field="null_quantiles", written_by=call)
    table = ranking_table(result["table"], name="target_gene", value="similarity", is_hit="is_consistent", null=NULL)
    with open_axes(ax, WIDTH, HEIGHT) as ax:
        draw_ranking(ax, table, hit="consistent", alpha=float(result["parameters"]["alpha"]), n_labels=n_labels)
        ax.set(xlabel="Genes, in order", ylabel="Cosine of guides", title=score_title("Guide consistency", result))
    return ax


@plot
def replicate_consistency(
    data: AnnData | MuData,
    *,
    modality: str | None = None,
    key: str | None = None,
    n_labels: int = 10,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot the similarity of the replicates of each perturbation in ascending order, with the null.

    Parameters
    ----------
    data
        Cells that :func:`petri_scvi.tl.replicate_consistency` scored.
    modality
        Draw this modality; by default all, in colours.
    key
        Slot of the embedding; may be left out if a single one was scored.
    n_labels
        Consistent perturbations to name, per modality, the most similar first, as many as fit.
    ax
        Axes to draw on; a new figure if ``None``.
    show
        Display the figure and return ``None``. By default a new figure is displayed as ``sc.settings.autoshow`` says.
    save
        File to write. As in scanpy, ``True`` and a string such as ``"_a.pdf"`` write to ``sc.settings.figdir``, under
        the name of the function and this suffix; a path with a folder or a :class:`pathlib.Path` is taken as it is. By
        default a new figure is written as ``sc.settings.autosave`` says.

    Returns
    -------
    The axes, as those of :func:`petri_scvi.pl.guide_consistency`. The score in the title is that of all modalities.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.replicate_consistency` has not been called for this embedding.
    ValueError
        The modality has not been scored, or several embeddings were and ``key`` is ``None``.
    """
    call = f"replicate_consistency(data{slot_argument(key)})"
    result = read_score(data, key, start="replicate_consistency", field="n_not_scored", written_by=call)
    scored = choose_modality(result["table"], modality)
    table = ranking_table(scored, name="perturbation", value="similarity", is_hit="is_consistent", null=NULL)
    with open_axes(ax, WIDTH, HEIGHT) as ax:
        draw_ranking(ax, table, hit="consistent", alpha=float(result["parameters"]["alpha"]), n_labels=n_labels)
        title = score_title("Replicate consistency", result)
        ax.set(xlabel="Perturbations, in order", ylabel="Cosine of replicates", title=title)
    return ax


def score_title(name: str, result: dict[str, Any]) -> str:
    """Score with its interval."""
    score, low, high = (float(result[part]) for part in ("score", "score_low", "score_high"))
    return f"{name} {score:.2f}\n95 % CI {low:.2f} to {high:.2f}"
