"""Sufficient statistics of the guide model: means, cell counts and inner products of profiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._constants import ALL, UNS_KEY
from petri_scvi.common._labels import check_controls, read_labels
from petri_scvi.common._warn import warn
from petri_scvi.tl._embedding import finite_rows
from petri_scvi.tl._similarity import read_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels


@dataclass(frozen=True)
class GuideStatistics:
    """Sufficient statistics of the guide model.

    All replicates of a guide in a modality estimate the same effect with noise that falls with their cells, so their
    mean weighted by cells and the squares around it are sufficient. All dimensions share the variances, so only inner
    products of the means are needed. G genes, J guides of the gene with most of them, M modalities, D dimensions.
    """

    genes: NDArray[Any]  # (G,) names
    guides: NDArray[Any]  # (G, J) names, "" where a gene has fewer guides
    modalities: list[str]
    means: NDArray[np.float64]  # (G, J, M, D), 0 where there are no cells
    n_cells: NDArray[np.float64]  # (G, J, M)
    products: NDArray[np.float64]  # (G, J, M, J, M), summed over dimensions
    control_squares: NDArray[np.float64]  # (K, M), squared length of each control guide's mean
    control_cells: NDArray[np.float64]  # (K, M)
    residual_squares: NDArray[np.float64]  # (M,), of replicates around the mean of their guide, times cells
    residual_count: NDArray[np.float64]  # (M,), numbers in residual_squares that are free to vary
    constant: float  # part of the log-likelihood that does not depend on the parameters
    scale: float  # the means were divided by this
    origin: NDArray[np.float64]  # (M, D), mean control of each modality in the coordinates of the embedding

    @property
    def n_dims(self) -> int:
        """Dimensions of the embedding."""
        return int(self.means.shape[-1])

    @property
    def is_guide(self) -> NDArray[np.bool_]:
        """Whether a gene has so many guides, shape ``(G, J)``."""
        return np.asarray(self.guides != "")


def read_statistics(profiles: AnnData, control: Labels) -> GuideStatistics:
    """Read profiles of guides, or of guides in replicates, relative to the controls of their replicate."""
    rows = _rows(profiles)
    controls = check_controls({"profiles.obs['target_gene']": rows["target_gene"]}, control)
    rows["is_control"] = rows["target_gene"].isin(controls)
    values = np.vstack([matrix[rows.loc[rows["modality"] == name, "row"]] for name, matrix in _matrices(profiles)])
    origins = _origins(rows, values, controls)
    origin = _mean_controls(rows, values)
    return replace(summarise(rows, values - origins), origin=origin)


def summarise(rows: pd.DataFrame, values: NDArray[np.float64], scale: float | None = None) -> GuideStatistics:
    """Collapse replicates and dimensions.

    Parameters
    ----------
    rows
        One row per guide, modality and replicate: ``guide``, ``target_gene``, ``modality``, ``n_cells``, and
        ``is_control``.
    values
        Their profiles, shape ``(n_rows, D)``; 0 is no effect.
    scale
        Divisor; by default the root mean square of the guides that are not controls.
    """
    modalities = list(pd.unique(rows["modality"]))
    keys = ["is_control", "target_gene", "guide", "modality"]
    group = rows.groupby(keys, sort=True).ngroup().to_numpy()
    first = rows.groupby(keys, sort=True)["n_cells"].sum().reset_index()
    cells = rows["n_cells"].to_numpy(dtype=np.float64)
    total = first["n_cells"].to_numpy(dtype=np.float64)
    means = np.zeros((len(first), values.shape[1]))
    np.add.at(means, group, cells[:, None] * values)
    means /= total[:, None]
    squares = cells * np.square(values - means[group]).sum(axis=1)
    is_target = ~rows["is_control"].to_numpy(dtype=bool)
    in_modality = np.array([(rows["modality"] == name).to_numpy() & is_target for name in modalities])  # (M, n_rows)
    of_group = np.array([((first["modality"] == name) & ~first["is_control"]).to_numpy() for name in modalities])
    count = values.shape[1] * (in_modality.sum(axis=1) - of_group.sum(axis=1)).astype(np.float64)
    log_cells = np.log(cells[is_target]).sum() - np.log(total[~first["is_control"].to_numpy(dtype=bool)]).sum()

    targeted = first[~first["is_control"]]
    guides = targeted[["target_gene", "guide"]].drop_duplicates()
    gene_code, genes = pd.factorize(guides["target_gene"])
    slot = guides.groupby("target_gene").cumcount().to_numpy()
    shape = (len(genes), int(slot.max()) + 1)
    names = np.full(shape, "", dtype=object)
    names[gene_code, slot] = guides["guide"]
    place = pd.MultiIndex.from_frame(guides).get_indexer(pd.MultiIndex.from_frame(targeted[["target_gene", "guide"]]))
    at = (gene_code[place], slot[place], pd.Index(modalities).get_indexer(targeted["modality"]))
    scale = scale or float(np.sqrt(np.square(means[targeted.index]).mean())) or 1.0
    placed = np.zeros((*shape, len(modalities), values.shape[1]))
    n_cells = np.zeros((*shape, len(modalities)))
    placed[at] = means[targeted.index] / scale
    n_cells[at] = targeted["n_cells"]
    control_squares, control_cells = _controls(first[first["is_control"]], means / scale, modalities)
    return GuideStatistics(
        genes=np.asarray(genes, dtype=object),
        guides=names,
        modalities=modalities,
        means=placed,
        n_cells=n_cells,
        products=np.einsum("gjmd,gknd->gjmkn", placed, placed, optimize=True),
        control_squares=control_squares,
        control_cells=control_cells,
        residual_squares=in_modality @ squares / scale**2,
        residual_count=count,
        constant=0.5 * values.shape[1] * float(log_cells),
        scale=scale,
        origin=np.zeros((len(modalities), values.shape[1])),
    )


def _controls(
    controls: pd.DataFrame, means: NDArray[np.float64], modalities: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared lengths and cells of control guides, shapes ``(K, M)``."""
    codes, names = pd.factorize(controls["guide"])
    squares, cells = np.zeros((len(names), len(modalities))), np.zeros((len(names), len(modalities)))
    at = (codes, pd.Index(modalities).get_indexer(controls["modality"]))
    squares[at], cells[at] = np.square(means[controls.index]).sum(axis=1), controls["n_cells"]
    # The origin is their own mean, which they are nearer to than to the unknown true one. A single control is the
    # origin and says nothing.
    n = (cells > 0).sum(axis=0)
    return squares * n / np.maximum(n - 1, 1), np.where(n > 1, cells, 0.0)


def _rows(profiles: AnnData) -> pd.DataFrame:
    """One row per guide, replicate and modality that has a profile, modality by modality."""
    _check_is_profiles(profiles)
    obs = profiles.obs.reset_index(drop=True)
    columns = [column for column in ("guide", "target_gene", "replicate") if column in obs]
    labels = pd.DataFrame({column: read_labels(obs, column, "profiles.obs") for column in columns})
    labels = labels if "replicate" in labels else labels.assign(replicate=ALL)
    n_missing = int(labels["replicate"].isna().sum())
    if n_missing:
        raise ValueError(
            f"profiles.obs['replicate'] is missing for {n_missing} of {len(labels)} profiles. Name their replicate, or "
            "drop them."
        )
    has_target = labels[["guide", "target_gene"]].notna().all(axis=1).to_numpy()
    parts = []
    for name, matrix in _matrices(profiles):
        cells = obs["n_cells" if name == ALL else f"n_cells_{name}"].to_numpy(dtype=np.float64)
        keep = np.flatnonzero(finite_rows(matrix) & (cells > 0) & has_target)
        parts.append(labels.loc[keep].assign(modality=name, n_cells=cells[keep], row=keep))
    rows = pd.concat(parts, ignore_index=True)
    n_lost = obs["guide"].nunique() - rows["guide"].nunique()
    if n_lost:
        warn(f"{n_lost} guides have no finite profile with cells, or no target gene; they are left out")
    if rows.duplicated(["guide", "replicate", "modality"]).any():
        name = rows.loc[rows.duplicated(["guide", "replicate", "modality"]), "guide"].iloc[0]
        raise ValueError(
            f"guide {name!r} has more than one profile in the same replicate and modality. Name replicates in "
            "obs['replicate'], as petri_scvi.tl.replicate_profiles does."
        )
    return rows


def _matrices(profiles: AnnData) -> list[tuple[str, NDArray[np.float64]]]:
    """Profiles of each modality."""
    layers = [name for name in profiles.layers if name is not None and f"n_cells_{name}" in profiles.obs]
    if layers:
        return [(name, read_vectors(profiles, name)) for name in layers]
    return [(ALL, read_vectors(profiles))]


def _check_is_profiles(profiles: AnnData) -> None:
    call = "petri_scvi.tl.replicate_profiles(data) or petri_scvi.tl.aggregate_profiles(data)"
    apart = "their spaces are separate, so no variance can be shared; embed both in one space, or model one at a time"
    if isinstance(profiles, (list, tuple)):
        raise TypeError(
            f"found {len(profiles)} tables of profiles, expected one of {call}. Of several modalities, {apart}."
        )
    if not isinstance(profiles, AnnData):
        raise TypeError(f"expected an AnnData of profiles, found {type(profiles).__name__}. Make it with {call}.")
    results: Mapping[str, Any] = profiles.uns.get(UNS_KEY, {})
    if "late_fusion" in results:
        raise ValueError(f"these profiles were joined by petri_scvi.tl.late_fusion: {apart}.")
    for column in ("guide", "target_gene", "n_cells"):
        if column not in profiles.obs:
            raise KeyError(
                f"profiles.obs has no {column!r}; it has {list(profiles.obs.columns)}. Make one profile per guide with "
                f"{call}."
            )


def _mean_controls(rows: pd.DataFrame, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the control guides of each modality, each the mean of its cells, as profiles average them."""
    cells = rows["n_cells"].to_numpy(dtype=np.float64)
    weighted = pd.DataFrame(cells[:, None] * values).assign(n=cells)
    of_guides = weighted.groupby([rows["modality"].to_numpy(), rows["guide"].to_numpy()]).sum()
    means = of_guides.drop(columns="n").div(of_guides["n"], axis=0)
    is_control = means.index.get_level_values(1).isin(rows.loc[rows["is_control"], "guide"])
    found = means[is_control].groupby(level=0).mean().reindex(pd.unique(rows["modality"]))
    return found.to_numpy(dtype=np.float64)


def _origins(rows: pd.DataFrame, values: NDArray[np.float64], names: list[str]) -> NDArray[np.float64]:
    """Mean control of the modality and replicate of each row; that of the modality where the replicate has none."""
    is_control = rows["is_control"].to_numpy(dtype=bool)
    if is_control.all():
        raise ValueError(f"the obs['target_gene'] of every guide is one of {names}; there is no gene to model")
    cells = rows["n_cells"].to_numpy(dtype=np.float64)
    origins = np.full_like(values, np.nan)
    for keys in (["modality"], ["modality", "replicate"]):  # the second overwrites the first
        for members in rows.groupby(keys).indices.values():
            controls = members[is_control[members]]
            if len(controls):
                origins[members] = np.average(values[controls], axis=0, weights=cells[controls])
    missing = rows.loc[~finite_rows(origins), "modality"].unique()
    if len(missing):
        raise ValueError(f"modality {missing[0]!r} has no guide with a target_gene of {names} to measure effects from")
    has_control = rows.assign(c=is_control).groupby(["modality", "replicate"])["c"].transform("any")
    if not has_control.all():
        lone = rows.loc[~has_control, "replicate"].unique()
        warn(
            f"{len(lone)} replicates have no controls, for example {lone[0]!r}; those of other replicates of the "
            "modality are used"
        )
    return origins
