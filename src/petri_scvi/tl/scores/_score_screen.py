"""Score several embeddings of a screen in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.progress import Progress

from petri_scvi._constants import CONTROL, UNS_KEY
from petri_scvi.common import in_markup, joined_labels
from petri_scvi.common._labels import as_text, column_list
from petri_scvi.common._warn import warn
from petri_scvi.tl._arguments import check_choice
from petri_scvi.tl._embedding import MODALITY, control_names, find_slots
from petri_scvi.tl._results import one_or_several, write_result
from petri_scvi.tl.profiles._aggregate import SEPARATOR, aggregate_guides, fold_guides, guide_profiles
from petri_scvi.tl.profiles._center_scale import fit_scaler
from petri_scvi.tl.profiles._late_fusion import FUSIONS, SIMILARITY_KEY, late_fusion, split_modalities
from petri_scvi.tl.profiles._whiten import fit_whitener

from ._bootstrap import bootstrap_edges, bootstrap_share, tpr_name
from ._circular import groups_to_leave_out, warn_if_circular
from ._edge_recall import MIN_SCORE, edge_recall
from ._edges import match_edges
from ._guide_consistency import guide_consistency, scored_guides, why_not_testable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from petri_scvi.common._labels import Labels
    from petri_scvi.tl._embedding import Slot
    from petri_scvi.tl.profiles._late_fusion import Fusion

    from ._circular import LeftOut
    from ._edges import EdgeTable

N_NULL = 20_000
ALPHA = 0.05
RATES = np.unique(np.concatenate([[0], np.geomspace(1e-4, 0.1, 100), np.linspace(0.1, 1, 100)]))
"""False-positive rates at which a ROC curve of more corners is kept: small ones are looked at most."""


def score_screen(
    data: AnnData | MuData,
    keys: Sequence[str],
    *,
    edges: EdgeTable | None = None,
    replicate_key: str | Sequence[str] = "replicate",
    guide_key: str = "guide",
    target_key: str = "target_gene",
    control: Labels = CONTROL,
    leave_out_groups: LeftOut = False,
    fusions: Fusion | Sequence[Fusion] | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Score embeddings with the whole protocol: center and scale, whiten, average, guide consistency, known edges.

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
    leave_out_groups
        Leave out edges, and other pairs, of genes that share a group; see :func:`petri_scvi.tl.edge_recall`. ``True``:
        a group of ``context_groups``, with which a model was trained that embedded these cells.
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
    ``uns["petri_scvi"]["score_screen"]``: ``table``, ``parameters`` and, with ``edges``, ``curves``, the ROC curves:
    ``key``, ``modality``, ``fusion``, ``fpr`` and ``tpr``, interpolated at up to 201 rates that are close to each other
    where they are small.

    Raises
    ------
    KeyError
        A slot or column is missing.
    ValueError
        There is nothing to score, no cell has a label of ``control``, no groups are recorded, or a step of the protocol
        fails; the error message explains the fix.

    Warns
    -----
    UserWarning
        Guide consistency is left out, for example because no gene has two guides. Or edges share a group with which a
        model was trained, and are not left out.

    Notes
    -----
    A space that modalities share is whitened once, for all its cells together, and that changes the scores of single
    modalities as well. To compare these, or modalities that are joined afterwards, with an embedding of one modality,
    store both under another key, ``mdata["image"].obsm["X_apart"]`` and ``mdata["rna"].obsm["X_apart"]``: a slot of the
    MuData comes before those of its modalities.

    In a shared space, guides that were seen in one modality only have a joint profile; profiles that are joined
    afterwards need both. Where ``n`` differs, scores are of different genes.

    The embeddings are read in chunks; nothing is written to ``obsm``. Resampling draws genes, not pairs, so that pairs
    that share a gene stay together; which genes are consistent is not tested again.
    """
    keys = [keys] if isinstance(keys, str) else list(keys)
    if not keys:
        raise ValueError("keys is empty; name the obsm slots to score, for example keys=['X_petri']")
    if n_bootstrap < 0:
        raise ValueError(f"n_bootstrap={n_bootstrap!r} is not accepted; pass 0 for no intervals, or a few hundred")
    fusions = [fusions] if isinstance(fusions, str) else fusions
    for name in fusions or ():
        check_choice("fusions", name, FUSIONS)
    replicate_keys = column_list(replicate_key, "replicate_key")
    columns = list(dict.fromkeys([*replicate_keys, guide_key, target_key]))
    slots_of = {key: find_slots(data, key, columns) for key in keys}
    # Embeddings that cannot be scored are refused before the work starts.
    controls = control_names(slots_of[keys[0]], target_key, control)
    left_out = groups_to_leave_out(data, leave_out_groups)
    _check_scorable(data, slots_of[keys[0]], guide_key, target_key, controls, edges, left_out)
    rows: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []
    with Progress(disable=not progress) as bar:
        task = bar.add_task("Scoring", total=len(keys))
        for key, slots in slots_of.items():
            tables = []
            for slot in slots:
                bar.update(task, description=in_markup(f"Scoring {key}"))
                scaler = fit_scaler(slot, replicate_keys, target_key, controls)
                whitener = fit_whitener(slot, slot.cells[MODALITY].notna().to_numpy(), scaler)
                tables.append(guide_profiles(fold_guides(slot, guide_key, target_key, scaler, whitener)))
            modalities = [str(m) for slot in slots for m in slot.cells[MODALITY].dropna().unique()]
            for modality, fusion, guides, genes in _combinations(tables, modalities, fusions):
                similarity_key = SIMILARITY_KEY if fusion == "max_cosine" else None
                place = {"key": key, "modality": modality, "fusion": fusion}
                scored = _Scored(controls, similarity_key, n_bootstrap, seed, np.random.default_rng(seed), left_out)
                scores = [] if guides is None else scored.consistency(guides, " ".join(place.values()))
                if edges is not None:
                    of_edges, curve = scored.edges(genes, edges)
                    scores += of_edges
                    curves.append(pd.DataFrame(place, index=curve.index).join(curve))
                rows += [place | score for score in scores]
            bar.advance(task)
    if not rows:
        raise ValueError(
            "nothing could be scored; the warnings say why. Pass edges=..., to score genes instead of guides."
        )
    table = pd.DataFrame(rows)
    parameters: dict[str, Any] = {"keys": keys, "replicate_key": replicate_keys, "guide_key": guide_key}
    parameters |= {
        "target_key": target_key,
        "control": one_or_several(controls),
        "fusions": fusions,
        "n_bootstrap": n_bootstrap,
    }
    parameters |= {"seed": seed, "alpha": ALPHA, "has_edges": edges is not None, "n_left_out_groups": len(left_out)}
    result = {"table": table} | ({"curves": pd.concat(curves, ignore_index=True)} if curves else {})
    write_result(data, "score_screen", result, parameters)
    return table


def _check_scorable(
    data: AnnData | MuData,
    slots: Sequence[Slot],
    guide_key: str,
    target_key: str,
    controls: Sequence[str],
    edges: EdgeTable | None,
    left_out: Mapping[str, Sequence[str]],
) -> None:
    """Require guides of one target, or edges between targets."""
    cells = pd.concat([slot.cells[slot.cells[MODALITY].notna()] for slot in slots])
    cells = cells[[guide_key, target_key]].set_axis(["guide", "target"], axis=1).dropna().drop_duplicates()
    targets = cells.loc[~cells["target"].isin(controls), "target"].to_numpy(dtype=np.str_)
    if edges is not None:
        genes = np.unique(targets)
        matched = match_edges(edges, genes, MIN_SCORE, left_out)
        if not left_out:
            warn_if_circular(data, matched.positive, genes)
    elif reason := why_not_testable(targets):
        raise ValueError(f"{reason} Or pass edges=..., known pairs of targets, to score profiles of targets.")


def _combinations(
    tables: list[AnnData], modalities: list[str], fusions: Sequence[Fusion] | None
) -> Iterator[tuple[str, str, AnnData | None, AnnData]]:
    """Name of the modality, fusion, and profiles of guides and of genes: each modality alone, then joined.

    Guides are ``None`` where modalities that are to be joined have none in common.
    """
    is_shared = len(tables) == 1 and len(modalities) > 1
    parts = split_modalities(tables[0]) if is_shared else tables
    genes = [aggregate_guides(part) for part in parts]
    for modality, of_guides, of_genes in zip(modalities, parts, genes, strict=True):
        yield modality, "none", of_guides, of_genes
    if len(parts) < 2:
        return
    usual: tuple[Fusion, ...] = ("mean_embedding",) if is_shared else ("concatenate", "mean_cosine", "max_cosine")
    name = joined_labels([[modality] for modality in modalities], SEPARATOR)[0]
    has_guides = len(set.intersection(*(set(part.obs_names) for part in parts))) > 0
    for fusion in usual if fusions is None else fusions:
        if is_shared and fusion == "mean_embedding":
            # Guides seen in one modality only are kept, as in the paper.
            yield name, fusion, tables[0], aggregate_guides(tables[0])
            continue
        if not has_guides:
            warn(f"{name} {fusion}: the modalities have no guide in common; guide consistency is left out")
        yield name, fusion, late_fusion(parts, fusion) if has_guides else None, late_fusion(genes, fusion)


@dataclass(frozen=True)
class _Scored:
    """Rows of the table for one set of profiles."""

    controls: Sequence[str]
    similarity_key: str | None
    n_bootstrap: int
    seed: int
    rng: np.random.Generator
    left_out: Mapping[str, Sequence[str]]

    def consistency(self, guides: AnnData, place: str) -> list[dict[str, Any]]:
        """Guide consistency; nothing, with a warning, if it cannot be tested."""
        targets = as_text(guides.obs["target_gene"])
        scored = targets[~targets.isin(self.controls)].to_numpy(dtype=np.str_)
        if reason := why_not_testable(scored):
            warn(f"{place}: guide consistency is left out, as {reason}")
            return []
        n_null = max(N_NULL, int(np.ceil(len(np.unique(scored)) / ALPHA)))
        guide_consistency(
            guides,
            similarity_key=self.similarity_key,
            control=self._present(targets),
            n_null=n_null,
            alpha=ALPHA,
            seed=self.seed,
        )
        found = guides.uns[UNS_KEY]["guide_consistency"]
        is_hit = found["table"]["is_consistent"].to_numpy()
        low, high = bootstrap_share(is_hit, self.n_bootstrap, self.rng)
        row = {"metric": "guide_consistency", "value": found["score"], "ci_low": low, "ci_high": high}
        return [row | {"n": found["n_genes"]}]

    def edges(self, genes: AnnData, edges: EdgeTable) -> tuple[list[dict[str, Any]], pd.DataFrame]:
        """Recall of known pairs, and the ROC curve."""
        targets = as_text(genes.obs["target_gene"])
        edge_recall(
            genes,
            edges,
            similarity_key=self.similarity_key,
            control=self._present(targets),
            leave_out_groups=self.left_out or False,
        )
        found = genes.uns[UNS_KEY]["edge_recall"]
        similarities, names = scored_guides(
            genes, targets, self.controls, layer=None, similarity_key=self.similarity_key
        )
        intervals = bootstrap_edges(similarities, names, edges, MIN_SCORE, self.n_bootstrap, self.rng, self.left_out)
        values = {tpr_name(fpr): tpr for fpr, tpr in found["tpr_at_fpr"].to_numpy()}
        values |= {"edge_auc": found["auc"], "edge_average_precision": found["average_precision"]}
        rows = [
            {"metric": name, "value": value, "ci_low": low, "ci_high": high, "n": found["n_positive"]}
            for name, value in values.items()
            for low, high in [intervals[name]]
        ]
        return rows, thin_curve(found["curve"])

    def _present(self, targets: pd.Series) -> list[str] | None:
        """Controls with a profile: cells without a guide have none, nor do guides of one of the joined modalities."""
        return sorted(set(self.controls) & set(targets)) or None


def thin_curve(curve: pd.DataFrame) -> pd.DataFrame:
    """The corners of a ROC curve or, if these are many, its values at fixed rates."""
    if len(curve) > len(RATES):
        curve = pd.DataFrame({"fpr": RATES, "tpr": np.interp(RATES, curve["fpr"], curve["tpr"])})
    return curve.astype(np.float32)
