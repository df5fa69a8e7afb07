"""Large public Perturb-seq screens: essential genes of four cell lines, and all genes of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import h5py
import numpy as np
from anndata import AnnData

from petri_scvi._constants import CONTROL
from petri_scvi.datasets.cache._fetch import fetch
from petri_scvi.datasets.cache._registry_public import NADIG, REPLOGLE

from ._large_h5ad import read_rows, read_table
from ._standard_obs import standard_obs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from petri_scvi.datasets.cache._registry import Entry

TARGET, GUIDE, BATCH, SYMBOL = "gene", "sgID_AB", "gem_group", "gene_name"
"""Columns of the published files."""
KEPT = ("UMI_count", "mitopercent", "gene_transcript")


def replogle(
    which: Literal["k562_essential", "rpe1", "k562_gwps"] = "k562_essential",
    *,
    genes: Sequence[str] | None = None,
    max_cells_per_target: int | None = None,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> AnnData:
    """Load transcriptomes of the CRISPRi Perturb-seq screens of Replogle et al. :cite:p:`Replogle2022`.

    Parameters
    ----------
    which
        ``"k562_essential"``: essential genes in K562, 10.7 GB; ``"rpe1"``: the same in RPE1, 8.7 GB; ``"k562_gwps"``:
        all expressed genes in K562, 65.8 GB.
    genes
        Target genes to read; all if ``None``. Non-targeting controls are always read.
    max_cells_per_target
        Draw at most this many cells of each target gene. Controls are all kept.
    seed
        Seed of this draw.
    cache_dir
        Folder to look in first, as in :func:`petri_scvi.datasets.semisynthetic_screen`; the file is in its subfolder
        ``replogle``, under its published name.
    progress
        Show a progress bar.

    Returns
    -------
    AnnData with CSR counts in ``X``, integer-valued ``float32``. ``var_names`` are gene symbols; where several genes
    share one, their identifiers are appended. ``obs`` has ``perturbation``, ``guide``, ``target_gene``,
    ``is_control``, ``replicate``, ``well`` and ``batch``; the last three are the lane (``gem_group``), as the wells are
    not recorded. A guide is the pair of sgRNAs that one vector carries.

    Raises
    ------
    OSError
        The disk is too small, or the download was interrupted; call again to resume.
    ValueError
        ``which``, ``genes`` or ``max_cells_per_target`` is not accepted, or the file is not the published one.

    Notes
    -----
    The file is dense and is read in blocks of 64 MB; the result is in memory, about 24 kB per cell. Only the requested
    rows are kept; a few hundred cells per gene are enough for a first analysis.

    Files 35773219, 35775606 and 35775507 of figshare 20029387, CC BY 4.0. Lengths and MD5, which figshare publishes,
    are compared; SHA-256 are not published: that of the first download is recorded beside it and compared later.
    figshare may refuse programs; then download the file with a browser and move it to ``replogle`` in the cache folder.
    The names of the columns were taken from public code that uses the files, not from the files themselves.
    """
    _check_choice("which", which, REPLOGLE)
    return _read(REPLOGLE[which], genes, max_cells_per_target, seed, cache_dir, progress)


def hepg2_perturbseq(
    cell_line: Literal["hepg2", "jurkat"] = "hepg2",
    *,
    genes: Sequence[str] | None = None,
    max_cells_per_target: int | None = None,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> AnnData:
    """Load transcriptomes of the CRISPRi Perturb-seq screens in HepG2 and Jurkat cells :cite:p:`Nadig2025`.

    Parameters
    ----------
    cell_line
        ``"hepg2"``, 5.6 GB, or ``"jurkat"``, about 9.4 GB.
    genes, max_cells_per_target, seed, progress
        As in :func:`petri_scvi.datasets.replogle`.
    cache_dir
        Folder to look in first, as in :func:`petri_scvi.datasets.semisynthetic_screen`; the file is in its subfolder
        ``nadig``, under its published name.

    Returns
    -------
    As :func:`petri_scvi.datasets.replogle`.

    Raises
    ------
    OSError
        The disk is too small, or the download was interrupted; call again to resume.
    ValueError
        ``cell_line``, ``genes`` or ``max_cells_per_target`` is not accepted, or the file is not the published one.

    Notes
    -----
    GEO GSE264667; GEO states no licence. No checksum is published. For HepG2 the length is compared, 5,614,460,941
    bytes; that of Jurkat is known to two digits only. The SHA-256 of the first download is recorded beside the file and
    compared later; it is also compared with the one that another user reported, and a difference is a warning, since
    that report may be wrong.
    """
    _check_choice("cell_line", cell_line, NADIG)
    return _read(NADIG[cell_line], genes, max_cells_per_target, seed, cache_dir, progress)


def _check_choice(argument: str, value: str, known: dict[str, Entry]) -> None:
    if value not in known:
        raise ValueError(f"{argument}={value!r} is not accepted; pass one of {list(known)}")


def _read(
    entry: Entry,
    genes: Sequence[str] | None,
    max_cells: int | None,
    seed: int,
    cache_dir: str | Path | None,
    progress: bool,
) -> AnnData:
    if isinstance(genes, str):
        raise ValueError(f"genes={genes!r}; pass a list, such as [{genes!r}]")
    if max_cells is not None and (isinstance(max_cells, bool) or not isinstance(max_cells, int) or max_cells < 1):
        raise ValueError(f"max_cells_per_target={max_cells!r} is not accepted; pass a whole number from 1, or None")
    path = fetch(entry, cache_dir, progress=progress)
    with h5py.File(path, "r") as file:
        obs = read_table(file, "obs", [TARGET, GUIDE, BATCH])
        var = read_table(file, "var", [SYMBOL])
        rows = _choose_rows(obs[TARGET].astype(str).to_numpy(), genes, max_cells, np.random.default_rng(seed))
        counts = read_rows(file["X"], rows, is_counts=True, progress=progress)
    obs = obs.iloc[rows]
    table = standard_obs(obs.index, target=obs[TARGET], guide=obs[GUIDE], batch=obs[BATCH], control=CONTROL)
    kept = {name: obs[name].to_numpy() for name in KEPT if name in obs}
    return AnnData(counts, obs=table.assign(**kept), var=_by_symbol(var))


def _choose_rows(
    target: NDArray[np.str_], genes: Sequence[str] | None, max_cells: int | None, rng: np.random.Generator
) -> NDArray[np.integer]:
    """Rows of the genes and of the controls, in the order of the file."""
    is_chosen = np.ones(len(target), dtype=bool)
    if genes is not None:
        known = np.unique(target)
        unknown = sorted(set(genes) - set(known))
        if unknown:
            raise ValueError(
                f"genes has {unknown[:5]}{' and more' if len(unknown) > 5 else ''}, which the screen does not target; "
                f"it targets {len(known)} genes, for example {[str(name) for name in known[:5]]}"
            )
        is_chosen = np.isin(target, [*genes, CONTROL])
    rows = np.flatnonzero(is_chosen)
    if max_cells is None:
        return rows
    shuffled = rng.permutation(rows)
    _, codes = np.unique(target[shuffled], return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], codes[order])
    is_kept = (np.arange(len(order)) - starts < max_cells) | (target[shuffled][order] == CONTROL)
    return np.sort(shuffled[order][is_kept])


def _by_symbol(var: pd.DataFrame) -> pd.DataFrame:
    """Name genes by symbol; the identifier is appended where a symbol is not unique, and kept in a column."""
    symbols, identifiers = var[SYMBOL].astype(str), var.index.astype(str)
    names = np.where(symbols.duplicated(keep=False), symbols.to_numpy() + "_" + identifiers, symbols)
    return var.drop(columns=SYMBOL).assign(gene_id=identifiers.to_numpy()).set_axis(names.astype(str), axis=0)
