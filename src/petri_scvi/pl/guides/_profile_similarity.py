"""Similarity of profiles as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from scipy import sparse
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from petri_scvi.pl._axes import inches, open_axes, plot, text_inches
from petri_scvi.pl._colours import BACKGROUND, DIVERGING, group_colours
from petri_scvi.pl._labels import name_points
from petri_scvi.pl._results import key_argument

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from petri_scvi.pl._axes import Save

SMALL = 400
"""Up to this many leaves are reordered so that neighbours are similar, which takes cubic time."""
NO_GROUP = "none"


@plot
def profile_similarity(
    profiles: AnnData,
    *,
    key: str = "similarity",
    group_key: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Draw a clustered heat map of the similarity of all profiles.

    Parameters
    ----------
    profiles
        Profiles with ``obsp[key]``, from :func:`petri_scvi.tl.profile_similarity`.
    key
        ``obsp`` matrix to draw, its ``key_added``.
    group_key
        ``obs`` column, such as the pathway of each gene. Profiles of a group stay together and get a colour, that of
        ``uns[f"{group_key}_colors"]`` if present; groups and the profiles within are ordered by hierarchical clustering
        (average linkage). By default all profiles are clustered together.
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
    The axes. Colours are centred on 0 and reach the 99 % quantile of the pairs. Names of profiles are drawn if they
    fit. Profiles without a similarity are left out and counted below.

    Raises
    ------
    KeyError
        There is no such matrix or column.
    ValueError
        Fewer than two profiles have a similarity.
    """
    similarity, names = _read(profiles, key)
    is_kept = np.isfinite(np.diag(similarity))
    is_kept[is_kept] = np.isfinite(similarity[np.ix_(is_kept, is_kept)]).all(axis=1)
    if is_kept.sum() < 2:
        raise ValueError(
            f"{int(is_kept.sum())} of {len(names)} profiles in obsp[{key!r}] have a similarity; two are needed"
        )
    groups = _groups(profiles, group_key)[is_kept]
    similarity = similarity[np.ix_(is_kept, is_kept)]
    order = order_by_group(similarity, groups)
    side = min(max(3.5, 0.13 * len(order)), 5.0)
    width = side + (0.8 if group_key is None else 1.9)
    with open_axes(ax, width, side + 0.8) as ax:
        _draw_matrix(ax, similarity[np.ix_(order, order)])
        name_profiles(ax, names[is_kept][order])
        if group_key is not None:
            found = [group for group in dict.fromkeys(groups[order]) if group != NO_GROUP]
            colour_of = group_colours(found, group_key, profiles) | {NO_GROUP: BACKGROUND}
            _draw_groups(ax, groups[order], colour_of)
        n_left_out = int((~is_kept).sum())
        ax.set_title(f"{n_left_out} profiles without a similarity left out" if n_left_out else "", fontsize="small")
    return ax


def order_by_group(similarity: NDArray[np.floating], groups: NDArray[Any]) -> NDArray[np.intp]:
    """Rows ordered by clustering the groups, and the rows within each group."""
    codes, found = pd.factorize(groups)
    member = (codes[:, None] == np.arange(len(found))) / np.bincount(codes)  # (n, n_groups), columns sum to 1
    of_groups = _leaves(member.T @ similarity @ member)
    rows = [np.flatnonzero(codes == group) for group in of_groups]
    return np.concatenate([members[_leaves(similarity[np.ix_(members, members)])] for members in rows])


def _leaves(similarity: NDArray[np.floating]) -> NDArray[np.intp]:
    """Leaves of the average-linkage tree, from left to right."""
    if len(similarity) < 3:
        return np.arange(len(similarity))
    distance = squareform(np.clip(similarity.max() - similarity, 0, None), checks=False)
    return np.asarray(leaves_list(linkage(distance, "average", optimal_ordering=len(similarity) <= SMALL)))


def _read(profiles: AnnData, key: str) -> tuple[NDArray[np.float64], NDArray[Any]]:
    if key not in profiles.obsp:
        call = f"petri_scvi.tl.profile_similarity(profiles{key_argument(key, 'similarity')})"
        raise KeyError(f"key={key!r} is not in profiles.obsp, which has {sorted(profiles.obsp)}. Call {call} first.")
    matrix = profiles.obsp[key]
    dense = matrix.toarray() if sparse.issparse(matrix) else matrix
    return np.asarray(dense, dtype=np.float64), np.asarray(profiles.obs_names, dtype=str)


def _groups(profiles: AnnData, group_key: str | None) -> NDArray[Any]:
    if group_key is None:
        return np.full(profiles.n_obs, NO_GROUP)
    if group_key not in profiles.obs:
        raise KeyError(f"group_key={group_key!r} is not a column of profiles.obs; it has {list(profiles.obs.columns)}")
    column = profiles.obs[group_key]
    return np.where(column.isna(), NO_GROUP, column.astype(str))


def _draw_matrix(ax: Axes, similarity: NDArray[np.floating]) -> None:
    off_diagonal = np.abs(similarity[~np.eye(len(similarity), dtype=bool)])
    limit = min(1.0, max(0.05, float(np.ceil(20 * np.quantile(off_diagonal, 0.99)) / 20)))
    image = ax.imshow(similarity, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest", aspect="equal")
    ax.set_xticks([])
    ax.grid(False)
    bar = ax.inset_axes((0.25, -0.07, 0.5, 0.025))
    extend = "both" if limit < 1 else "neither"
    colorbar = ax.figure.colorbar(image, cax=bar, orientation="horizontal", extend=extend, ticks=[-limit, 0, limit])
    colorbar.set_label("Similarity", fontsize="small")
    colorbar.ax.tick_params(labelsize="small")
    colorbar.ax.grid(False)


def name_profiles(ax: Axes, names: NDArray[Any]) -> None:
    """Write every name at the right in a font size that fits, or none at all."""
    per_row = min(inches(ax)) / len(names)
    size = next((s for s in ("small", "x-small", "xx-small") if 1.05 * text_inches(s) <= per_row), None)
    ax.yaxis.tick_right()
    ax.set_yticks(range(len(names)) if size else [], names if size else [], fontsize=size)
    ax.tick_params(length=0)


def _draw_groups(ax: Axes, groups: NDArray[Any], colour_of: dict[str, str]) -> None:
    """Strip of colours left of the matrix, names of the groups, and lines between them."""
    strip = ax.inset_axes((-0.05, 0, 0.035, 1))
    strip.imshow(np.array([to_rgb(colour_of[g]) for g in groups])[:, None], aspect="auto", interpolation="nearest")
    strip.set(xticks=[], yticks=[])
    strip.grid(False)
    border = np.flatnonzero(groups[1:] != groups[:-1]) + 0.5
    for draw, axes in ((ax.axhline, [ax, strip]), (ax.axvline, [ax])):
        for at in border:
            for target in axes:
                getattr(target, draw.__name__)(at, color="white", linewidth=mpl.rcParams["axes.linewidth"] / 2)
    sizes = pd.Series(groups).value_counts()  # the largest groups first, in case not all names fit
    middle = [float(np.flatnonzero(groups == group).mean()) for group in sizes.index]
    name_points(ax, [-0.055] * len(sizes), middle, [str(g) for g in sizes.index], side="left", offset=0.09)
