"""Which cells of scGeneScope are read, and those that are in ``.h5ad`` files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from petri_scvi._constants import RNA
from petri_scvi.datasets.public._large_h5ad import read_dense, read_rows, read_table
from petri_scvi.datasets.public._standard_obs import standard_obs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Draw = Callable[[pd.DataFrame], NDArray[np.integer]]
    """Chooses rows of a table of cells."""

TREATMENT, REPLICATE, BATCH, CONTROL_TREATMENT = "Treatment", "Replicate", "batch", "DMSO"
SCVI_KEY = "scvi_n200"
SPLITS = {3: "train", 5: "validation", 4: "test", 1: "test_other_round", 2: "test_other_round"}
"""What the publication uses each replicate for."""


def choose_rows(
    obs: pd.DataFrame, *, replicates: Sequence[int], treatments: Sequence[str] | None, max_cells: int | None, seed: int
) -> NDArray[np.integer]:
    """Rows of the requested replicates and treatments, at most ``max_cells`` of each, in the order of the table."""
    treatment, replicate = obs[TREATMENT].astype(str), _replicate(obs)
    is_chosen = replicate.isin(list(replicates))
    if treatments is not None:
        known = sorted(set(treatment) - {CONTROL_TREATMENT})
        if isinstance(treatments, str) or set(treatments) - set(known):
            raise ValueError(f"treatments={treatments!r} is not accepted; pass a list of {known}")
        is_chosen &= treatment.isin([*treatments, CONTROL_TREATMENT])
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(is_chosen))
    if max_cells is not None:
        groups = (treatment.iloc[rows] + "|" + replicate.iloc[rows].astype(str)).to_numpy()
        rows = rows[(pd.Series(rows).groupby(groups).cumcount() < max_cells).to_numpy()]
    return np.sort(rows)


def cell_obs(obs: pd.DataFrame, modality: str, number: int) -> pd.DataFrame:
    """Columns of the cells of a round, from those of the deposit."""
    treatment, replicate = obs[TREATMENT].astype(str), _replicate(obs)
    table = standard_obs(
        f"{modality}_{number}_" + obs.index.astype(str),
        target=treatment,
        guide=treatment,
        batch=f"round{number}_" + obs[BATCH].astype(str),
        control=CONTROL_TREATMENT,
    )
    more = {"round": number, "split": replicate.map(SPLITS).to_numpy()}
    return table.assign(replicate=pd.Categorical(replicate.astype(str)), **more)


def read_cells(
    paths: Mapping[int, Path],
    modality: str,
    slot: str,
    draw: Draw,
    *,
    genes: Sequence[str] | None = None,
    progress: bool,
) -> AnnData:
    """Chosen cells of one file per round: values from ``slot``, columns of all rounds the same."""
    parts = [_read_round(path, modality, number, slot, draw, progress) for number, path in paths.items()]
    if any(list(part.var_names) != list(parts[0].var_names) for part in parts):
        raise ValueError(f"columns of {[str(path) for path in paths.values()]} differ; read one round")
    matrices = [part.X for part in parts]
    is_dense = isinstance(matrices[0], np.ndarray)
    joined = np.concatenate(matrices) if is_dense else sparse.vstack(matrices, format="csr")
    found = AnnData(joined, obs=pd.concat([part.obs for part in parts]), var=parts[0].var)
    if genes is None:
        return found
    unknown = sorted(set(genes) - set(found.var_names))
    if unknown:
        raise ValueError(f"genes has {unknown[:5]}, not measured; names are such as {list(found.var_names[:3])}")
    return found[:, list(genes)].copy()


def _replicate(obs: pd.DataFrame) -> pd.Series:
    """The replicate as a number, whether it is stored as text or not."""
    return pd.to_numeric(obs[REPLICATE].astype(str)).astype(int)


def _read_round(path: Path, modality: str, number: int, slot: str, draw: Draw, progress: bool) -> AnnData:
    with h5py.File(path, "r") as file:
        obs = read_table(file, "obs", [TREATMENT, REPLICATE, BATCH])
        if slot not in file:
            raise KeyError(f"{path} has no {slot}; it has {[*file, *(f'obsm/{key}' for key in file.get('obsm', ()))]}")
        rows = draw(obs)
        if modality == RNA and slot == "X":
            values: Any = read_rows(file[slot], rows, is_counts=False, progress=progress)
        else:
            values = read_dense(file[slot], rows, progress=progress)
        is_table = slot == "X"
        names = read_table(file, "var", []).index.astype(str) if is_table else np.arange(values.shape[1]).astype(str)
    var = pd.DataFrame(index=pd.Index(names if is_table else [f"latent_{i}" for i in names]))
    return AnnData(values, obs=cell_obs(obs.iloc[rows], modality, number), var=var)
