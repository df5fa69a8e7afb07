"""The usual case in one call: score several embeddings of a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.progress import Progress

from petri_scvi._constants import CONTROL, UNS_KEY
from petri_scvi.tl._embedding import find_slots
from petri_scvi.tl._results import write_result
from petri_scvi.tl.profiles._aggregate import SEPARATOR, aggregate_guides, check_choice, fold_guides, guide_profiles
from petri_scvi.tl.profiles._center_scale import fit_scaler
from petri_scvi.tl.profiles._late_fusion import FUSIONS, SIMILARITY_KEY, late_fusion, split_modalities
from petri_scvi.tl.profiles._whiten import fit_whitener

from ._bootstrap import bootstrap_edges, bootstrap_share, tpr_name
from ._edge_recall import MIN_SCORE, edge_recall
from ._guide_consistency import guide_consistency, scored_guides

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData

    from petri_scvi.tl.profiles._late_fusion import Fusion

    from ._edges import EdgeTable

N_NULL = 20_000
ALPHA = 0.05


def score_screen(
    data: AnnData | MuData,
    keys: Sequence[str],
    *,
    edges: EdgeTable | None = None,
    replicate_key: str | Sequence[str] = "replicate",
    guide_key: str = "guide",
    target_key: str = "target_gene",
    control: str = CONTROL,
    fusions: Fusion | Sequence[Fusion] | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Score embeddings with the whole protocol: center-scale, whiten, average, guide consistency, known edges.

    Parameters
    ----------
    data
        Cells with one or more embeddings.
    keys
        ``obsm`` slots to score, as they come from a model: of the MuData for spaces that modalities share, else of the
        modalities.
    edges
        Known gene pairs; see :func:`petri_scvi.tl.edge_recall`. ``None`` leaves these metrics out.
    replicate_key, target_key, control
        As in :func:`petri_scvi.tl.center_scale`.
    guide_key
        ``obs`` column of the guide.
    fusions
        How modalities are joined; see :func:`petri_scvi.tl.late_fusion`. By default ``"mean_embedding"`` for spaces
        that modalities share, as in the paper, and the three others for spaces that they do not.
    n_bootstrap
        Resamples of genes for the confidence intervals; 0 for none.
    seed
        Seed of null draws and resamples.
    progress
        Show a progress bar.

    Returns
    -------
    One row per key, modality and metric: ``key``, ``modality`` (``"image+rna"`` for joined ones), ``fusion``
    (``"none"`` for a single modality), ``metric``, ``value``, ``ci_low`` and ``ci_high`` (95 % percentile interval over
    genes, NaN without resamples), ``n`` (genes tested for guide consistency, or positive edges). Metrics are
    ``guide_consistency``, ``edge_tpr_at_1_fpr``, ``edge_tpr_at_5_fpr``, ``edge_tpr_at_10_fpr`` (fractions; the 1, 5 and
    10 are false-positive rates in percent), ``edge_auc`` and ``edge_average_precision``. Also written to
    ``uns["petri_scvi"]["score_screen"]``: ``table`` and ``parameters``.

    Raises
    ------
    KeyError
        A slot or column is missing.
    ValueError
        There is nothing to score, or a step of the protocol cannot be taken; its function names the fix.

    Notes
    -----
    A space that modalities share is whitened once, for all its cells together, and that changes the scores of single
    modalities as well. To compare these, or modalities that are joined afterwards, with an embedding of one modality,
    store them alike under another key, ``mdata["image"].obsm["X_apart"]`` and ``mdata["rna"].obsm["X_apart"]``: a slot
    of the MuData comes before those of its modalities.

    In a shared space, guides that were seen in one modality only have a joint profile; profiles that are joined
    afterwards need both. Where ``n`` differs, scores are of different genes.

    The embeddings are read in chunks; nothing is written to ``obsm``. The resamples keep the calls of consistency, and
    draw genes, not pairs, so that pairs that share a gene stay together.
    """
    keys = [keys] if isinstance(keys, str) else list(keys)
    if not keys:
        raise ValueError("keys is empty; name the obsm slots to score, for example keys=['X_petri']")
    if n_bootstrap < 0:
        raise ValueError(f"n_bootstrap={n_bootstrap!r} is not accepted; pass 0 for no intervals, or a few hundred")
    fusions = [fusions] if isinstance(fusions, str) else fusions
    for name in fusions or ():
        check_choice("fusions", name, FUSIONS)
    replicate_keys = [replicate_key] if isinstance(replicate_key, str) else list(replicate_key)
    columns = [*replicate_keys, guide_key, target_key]
    slots_of = {key: find_slots(data, key, columns) for key in keys}  # missing slots show before the work starts
    rows: list[dict[str, Any]] = []
    with Progress(disable=not progress) as bar:
        task = bar.add_task("Scoring", total=len(keys))
        for key, slots in slots_of.items():
            tables = []
            for slot in slots:
                bar.update(task, description=f"Scoring {key}")
                scaler = fit_scaler(slot, replicate_keys, target_key, control)
                whitener = fit_whitener(slot, slot.cells["modality"].notna().to_numpy(), scaler)
                tables.append(guide_profiles(fold_guides(slot, guide_key, target_key, scaler, whitener)))
            modalities = [str(m) for slot in slots for m in slot.cells["modality"].dropna().unique()]
            for modality, fusion, guides, genes in _combinations(tables, modalities, fusions):
                similarity_key = SIMILARITY_KEY if fusion == "max_cosine" else None
                scores = _score(guides, genes, edges, control, similarity_key, n_bootstrap, seed)
                rows += [{"key": key, "modality": modality, "fusion": fusion} | score for score in scores]
            bar.advance(task)
    table = pd.DataFrame(rows)
    parameters: dict[str, Any] = {"keys": keys, "replicate_key": replicate_keys, "guide_key": guide_key}
    parameters |= {"target_key": target_key, "control": control, "fusions": fusions, "n_bootstrap": n_bootstrap}
    parameters |= {"seed": seed, "alpha": ALPHA, "has_edges": edges is not None}
    write_result(data, "score_screen", {"table": table}, parameters)
    return table


def _combinations(
    tables: list[AnnData], modalities: list[str], fusions: Sequence[Fusion] | None
) -> Iterator[tuple[str, str, AnnData, AnnData]]:
    """Name of the modality, fusion, and profiles of guides and of genes: each modality alone, then joined."""
    is_shared = len(tables) == 1 and len(modalities) > 1
    parts = split_modalities(tables[0]) if is_shared else tables
    genes = [aggregate_guides(part) for part in parts]
    for modality, of_guides, of_genes in zip(modalities, parts, genes, strict=True):
        yield modality, "none", of_guides, of_genes
    if len(parts) < 2:
        return
    usual: tuple[Fusion, ...] = ("mean_embedding",) if is_shared else ("concatenate", "mean_cosine", "max_cosine")
    for fusion in usual if fusions is None else fusions:
        name = SEPARATOR.join(modalities)
        if is_shared and fusion == "mean_embedding":
            # Guides seen in one modality only are kept, as in the paper.
            yield name, fusion, tables[0], aggregate_guides(tables[0])
        else:
            yield name, fusion, late_fusion(parts, fusion), late_fusion(genes, fusion)


def _score(
    guides: AnnData,
    genes: AnnData,
    edges: EdgeTable | None,
    control: str,
    similarity_key: str | None,
    n_bootstrap: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table for one set of profiles."""
    rng = np.random.default_rng(seed)
    n_null = max(N_NULL, int(np.ceil(genes.n_obs / ALPHA)))
    guide_consistency(guides, similarity_key=similarity_key, control=control, n_null=n_null, alpha=ALPHA, seed=seed)
    consistency = guides.uns[UNS_KEY]["guide_consistency"]
    low, high = bootstrap_share(consistency["table"]["is_consistent"].to_numpy(), n_bootstrap, rng)
    scores: list[dict[str, Any]] = [
        {
            "metric": "guide_consistency",
            "value": consistency["score"],
            "ci_low": low,
            "ci_high": high,
            "n": consistency["n_genes"],
        }
    ]
    if edges is None:
        return scores
    edge_recall(genes, edges, similarity_key=similarity_key, control=control)
    found = genes.uns[UNS_KEY]["edge_recall"]
    similarities, names = scored_guides(genes, control, layer=None, similarity_key=similarity_key)
    intervals = bootstrap_edges(similarities, names, edges, MIN_SCORE, n_bootstrap, rng)
    values = {tpr_name(fpr): tpr for fpr, tpr in found["tpr_at_fpr"].to_numpy()}
    values |= {"edge_auc": found["auc"], "edge_average_precision": found["average_precision"]}
    for name, value in values.items():
        low, high = intervals[name]
        scores.append({"metric": name, "value": value, "ci_low": low, "ci_high": high, "n": found["n_positive"]})
    return scores
