"""Average cells into profiles of guides, and guides into profiles of genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._constants import ALL
from petri_scvi._groups import pass_on_record
from petri_scvi.common import joined_labels, split_labels
from petri_scvi.common._warn import warn
from petri_scvi.tl._arguments import check_choice
from petri_scvi.tl._embedding import MODALITY, find_slots, finite_rows
from petri_scvi.tl._profile_labels import read_targets
from petri_scvi.tl._results import write_result
from petri_scvi.tl._similarity import read_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.tl._embedding import Slot, Transform

SEPARATOR = "+"
"""Separator of the names of modalities in ``obs["modalities"]``."""


@dataclass(frozen=True)
class Fold:
    """Mean over the cells of each modality and guide."""

    means: dict[str, NDArray[np.float64]]  # modality: (n_guides, D), NaN where it has no cell of a guide
    n_cells: pd.DataFrame  # one row per guide, one column per modality
    targets: pd.Series  # guide: target gene
    n_not_finite: int


def aggregate_profiles(
    data: AnnData | MuData,
    key: str = "X_petri_scaled_whitened",
    *,
    level: Literal["guide", "gene"] = "guide",
    guide_key: str = "guide",
    target_key: str = "target_gene",
    over_guides: Literal["mean", "median"] = "mean",
    modality: str | None = None,
) -> AnnData:
    """Average the cells of each guide within each modality, then over modalities.

    Parameters
    ----------
    data
        Cells.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``; see :func:`petri_scvi.tl.center_scale`.
    level
        ``"guide"`` for one profile per guide, ``"gene"`` for one per target gene
        (:func:`petri_scvi.tl.aggregate_guides` does the second step alone).
    guide_key
        ``obs`` column of the guide. Cells without a guide are left out.
    target_key
        ``obs`` column of the gene the guide targets.
    over_guides
        For ``level="gene"``: how the guides of a gene are averaged.
    modality
        Use this modality of a MuData only.

    Returns
    -------
    Profiles, one row per guide or gene, controls included. ``X`` is the mean over modalities, shape ``(n_profiles, D)``
    in float64. Of several modalities, ``layers[modality]`` has the profile within each, NaN where it has no cells.
    ``obs`` has ``guide`` (for guides), ``target_gene``, ``n_guides`` (for genes), ``n_cells``, ``n_cells_<modality>``
    and ``modalities``, for example ``"image+rna"``. ``uns["petri_scvi"]["aggregate_profiles"]`` has the parameters.

    Raises
    ------
    KeyError
        A slot or column is missing.
    ValueError
        A guide has two target genes, no cell has a guide, or the modalities have separate slots, whose spaces
        cannot be averaged.

    Warns
    -----
    UserWarning
        Cells are left out because their embedding is NaN or infinite, or a guide or gene has cells in some of the
        modalities only: its ``X`` is the mean over these.

    Notes
    -----
    Cells are averaged within a modality first, so that the modality with more cells does not count more
    :cite:p:`PETRI2026`.
    """
    check_choice("level", level, ("guide", "gene"))
    check_choice("over_guides", over_guides, ("mean", "median"))
    slot = one_slot(data, key, [guide_key, target_key], modality, ", and join them with petri_scvi.tl.late_fusion")
    profiles = guide_profiles(fold_guides(slot, guide_key, target_key))
    parameters: dict[str, Any] = {
        "key": key,
        "level": level,
        "guide_key": guide_key,
        "target_key": target_key,
        "modality": modality,
    }
    if level == "gene":
        profiles = aggregate_guides(profiles, statistic=over_guides)
        parameters["over_guides"] = over_guides
    write_result(profiles, "aggregate_profiles", {}, parameters)
    pass_on_record([data], profiles)
    return profiles


def aggregate_guides(profiles: AnnData, *, statistic: Literal["mean", "median"] = "mean") -> AnnData:
    """Average the guides of each gene within each modality, then over modalities.

    Parameters
    ----------
    profiles
        One profile per guide, from :func:`petri_scvi.tl.aggregate_profiles`.
    statistic
        Mean or median of each dimension over guides; the median is robust to a guide that does not work.

    Returns
    -------
    One profile per gene, as :func:`petri_scvi.tl.aggregate_profiles` returns for ``level="gene"``.

    Raises
    ------
    KeyError
        ``obs["target_gene"]`` is missing.
    ValueError
        It is missing for every profile.

    Warns
    -----
    UserWarning
        Profiles have no target gene and are left out.
    """
    check_choice("statistic", statistic, ("mean", "median"))
    targets = read_targets(profiles)
    profiles = profiles[targets.notna().to_numpy()]
    if profiles.n_obs == 0:
        raise ValueError("no profile has a target_gene; name the gene of each guide in profiles.obs['target_gene']")
    codes, genes = pd.factorize(targets.dropna(), sort=True)
    layers = {layer: read_vectors(profiles, layer) for layer in profiles.layers if layer is not None} or {
        ALL: read_vectors(profiles)
    }
    means = {layer: _over_groups(values, codes, len(genes), statistic) for layer, values in layers.items()}
    counted = [column for column in profiles.obs if column.startswith("n_cells")]
    n_cells = profiles.obs[counted].groupby(codes).sum().to_numpy()
    obs = pd.DataFrame({"target_gene": genes, "n_guides": np.bincount(codes, minlength=len(genes))}, index=genes)
    obs[counted] = n_cells
    if "modalities" in profiles.obs:
        obs["modalities"] = _modalities(means) if len(means) > 1 else profiles.obs["modalities"].iloc[0]
    of_genes = _assemble(means, obs)
    pass_on_record([profiles], of_genes)
    return of_genes


def one_slot(data: AnnData | MuData, key: str, columns: Sequence[str], modality: str | None, advice: str = "") -> Slot:
    """Embedding of cells that lie in one space."""
    slots = find_slots(data, key, columns, modality=modality)
    if len(slots) > 1:
        names = [slot.cells[MODALITY].iloc[0] for slot in slots]
        raise ValueError(
            f"modalities {names} each have their own obsm[{key!r}], so their profiles lie in separate spaces. "
            f"Aggregate them one by one with modality={names[0]!r}{advice}. If they share one space, store it once: "
            f"mdata.obsm[{key!r}] = ..."
        )
    return slots[0]


def fold_guides(slot: Slot, guide_key: str, target_key: str, *transforms: Transform) -> Fold:
    """Mean of the transformed rows of each modality and guide, from one pass through the matrix."""
    cells = slot.cells
    is_used = cells[[MODALITY, guide_key, target_key]].notna().all(axis=1).to_numpy()
    if not is_used.any():
        raise ValueError(f"no cell has both a {guide_key!r} and a {target_key!r}; name the columns that have them")
    guide = cells[guide_key][is_used]
    targets = one_target_each(guide, cells[target_key][is_used], guide_key, target_key)
    guides = pd.Index(targets.index)
    modalities = list(pd.unique(cells[MODALITY].dropna()))
    group = np.full(len(cells), -1, dtype=np.intp)
    modality_code = pd.Categorical(cells.loc[is_used, MODALITY], categories=modalities).codes.astype(np.intp)
    group[is_used] = modality_code * len(guides) + guides.get_indexer(guide)

    sums, counts, n_bad = slot.sum_groups(group, len(modalities) * len(guides), *transforms)
    with np.errstate(invalid="ignore"):
        means = (sums / np.where(counts, counts, np.nan)[:, None]).reshape(len(modalities), len(guides), -1)
    n_cells = pd.DataFrame(counts.reshape(len(modalities), -1).T, index=guides, columns=modalities)
    return Fold(dict(zip(modalities, means, strict=True)), n_cells, targets, n_bad)


def guide_profiles(fold: Fold, *, warns_one_sided: bool = True) -> AnnData:
    """Profiles of guides, with a warning that counts what is missing."""
    if fold.n_not_finite:
        warn(f"{fold.n_not_finite} cells are NaN or infinite in the embedding; they are left out of the profiles")
    has_cells = fold.n_cells.sum(axis=1).to_numpy() > 0
    obs = pd.DataFrame({"guide": fold.targets.index, "target_gene": fold.targets.to_numpy()}, index=fold.targets.index)
    obs.index.name = None
    obs["n_cells"] = fold.n_cells.sum(axis=1)
    obs = obs[has_cells].copy()
    means = {name: values[has_cells] for name, values in fold.means.items()}
    if list(means) != [ALL]:
        for name in means:
            obs[f"n_cells_{name}"] = fold.n_cells[name]
        obs["modalities"] = _modalities(means)
        if warns_one_sided:
            _warn_one_sided(obs, len(means))
    if not has_cells.all():
        warn(f"{int((~has_cells).sum())} guides have no cell with a finite embedding; they have no profile")
    return _assemble(means, obs)


def _assemble(means: dict[str, NDArray[np.float64]], obs: pd.DataFrame) -> AnnData:
    profiles = AnnData(X=_mean_over(list(means.values())), obs=obs)
    if len(means) > 1:
        for name, values in means.items():
            profiles.layers[name] = values
    return profiles


def _mean_over(matrices: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over the modalities that have a profile; NaN where none has."""
    stacked = np.stack(matrices)  # (n_modalities, n_profiles, D)
    n_seen = np.isfinite(stacked).sum(axis=0)
    total = np.nansum(stacked, axis=0)
    return np.divide(total, n_seen, out=np.full_like(total, np.nan), where=n_seen > 0)


def _over_groups(values: NDArray[np.float64], codes: NDArray[np.intp], n: int, statistic: str) -> NDArray[np.float64]:
    """Mean or median of the rows of each group; NaN rows are left out."""
    grouped = pd.DataFrame(values).groupby(codes)
    return (grouped.mean() if statistic == "mean" else grouped.median()).reindex(range(n)).to_numpy()


def one_target_each(guide: pd.Series, target: pd.Series, guide_key: str, target_key: str) -> pd.Series:
    """Target gene of each guide."""
    pairs = pd.DataFrame({"guide": guide, "target": target}).drop_duplicates()
    names = pairs.loc[pairs["guide"].duplicated(), "guide"].unique()
    if len(names):
        genes = sorted(pairs.loc[pairs["guide"] == names[0], "target"])
        raise ValueError(
            f"{len(names)} values of obs[{guide_key!r}] have more than one obs[{target_key!r}], for example "
            f"{names[0]!r}: {genes}. Name guides so that no two genes share one, for example "
            f"obs[{guide_key!r}] = obs[{target_key!r}].astype(str) + '_' + obs[{guide_key!r}].astype(str)."
        )
    return pairs.set_index("guide")["target"].sort_index()


def _modalities(means: dict[str, NDArray[np.float64]]) -> list[str]:
    """Names of the modalities that have a profile, per row."""
    is_seen = np.stack([finite_rows(values) for values in means.values()], axis=1)  # (n_profiles, n_modalities)
    return [joined_labels([[name] for name in np.array(list(means))[row]], SEPARATOR)[0] for row in is_seen]


def _warn_one_sided(obs: pd.DataFrame, n_modalities: int) -> None:
    n_names = obs["modalities"].map(lambda joined: len(split_labels(joined, SEPARATOR)))
    partial = obs[n_names < n_modalities]
    if len(partial):
        kinds = partial["modalities"].value_counts().to_dict()
        warn(
            f"{len(partial)} of {len(obs)} guides have cells in some modalities only ({kinds}, for example "
            f"{partial.index[0]!r}); their profile is the mean over these"
        )
