"""Join an image screen and a transcriptome screen by what was targeted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from petri_scvi._checks import check_context_columns, check_flags
from petri_scvi._constants import CONTEXT_KEY, CONTROL, IMAGE, RNA, UNS_KEY
from petri_scvi.pp._mudata import build_mudata, with_obs

if TYPE_CHECKING:
    from mudata import MuData

RESULT_KEY, LABEL_KEY = "match_contexts", "source_label"
MATCHED, ONLY_IMAGE, ONLY_RNA = "matched", "only image", "only rna"
N_EXAMPLES = 5

Names: TypeAlias = str | Sequence[str]


def match_contexts(
    image: AnnData,
    rna: AnnData,
    *,
    target_key: str | Mapping[str, str] = "target_gene",
    control: Names | Mapping[str, Names] = CONTROL,
    synonyms: Mapping[str, str] | None = None,
    ignore_case: bool = False,
    keep: Literal["matched", "all"] = "matched",
    context_key: str = CONTEXT_KEY,
) -> MuData:
    """Join two screens of different cells by target gene, and report what matched.

    Labels are compared without spaces around them, after ``synonyms``, and with their case unless told otherwise. The
    labels of non-targeting guides, which differ from screen to screen, become one context, ``"non-targeting"``.

    Parameters
    ----------
    image, rna
        Cells of each screen; they are not changed.
    target_key
        ``obs`` column that says what was targeted; one name, or one per modality:
        ``{"image": "gene_symbol", "rna": "gene"}``.
    control
        Label of cells whose guide targets no gene; one, several, or either per modality:
        ``{"image": "nontargeting", "rna": "non-targeting"}``.
    synonyms
        Other names to the name to use, in both screens: ``{"MARCH8": "MARCHF8"}``. One step is taken, no chains.
    ignore_case
        Whether ``Tomm20`` is ``TOMM20``. The spelling of the transcriptomes is used.
    keep
        ``"matched"``: cells of contexts that both screens have, controls among them. ``"all"``: every cell; PETRI then
        trains the others in documents of their modality alone.
    context_key
        Column to write the context to.

    Returns
    -------
    MuData of the two, whose cells get their modality in front of their names where names are shared.

    - ``obs`` of each: ``context_key`` and ``target_gene``, the context; ``is_control``; ``source_label``, the label as
      it was.
    - ``uns["petri_scvi"]["match_contexts"]``: ``table``, one row per context with ``status`` (``"matched"``,
      ``"only image"`` or ``"only rna"``), ``is_control``, ``n_image`` and ``n_rna`` cells, and ``image_labels`` and
      ``rna_labels``, as they were spelled; ``n_matched`` target genes; ``parameters``.

    Raises
    ------
    KeyError
        A column is missing.
    TypeError
        A screen is no AnnData, or ``synonyms`` no mapping.
    ValueError
        No target gene is in both screens, a label is missing, or arrays on disk would have to be cut.

    Warns
    -----
    UserWarning
        A screen has no control cells.

    Examples
    --------
    >>> image = petri_scvi.datasets.periscope(["ATP6V1A", "TOMM20", "WDR1"])
    >>> rna = petri_scvi.datasets.replogle("rpe1", genes=["ATP6V1A", "TOMM20"])
    >>> mdata = petri_scvi.pp.match_contexts(image, rna)
    >>> mdata.uns["petri_scvi"]["match_contexts"]["table"]
    """
    if keep not in ("matched", "all"):
        raise ValueError(f"keep={keep!r} is not accepted; pass 'matched' or 'all'")
    check_flags(ignore_case=ignore_case)
    screens = {IMAGE: image, RNA: rna}
    for name, adata in screens.items():
        _check_is_anndata(name, adata)
    keys = _per_modality("target_key", target_key)
    if synonyms is not None and not isinstance(synonyms, Mapping):
        raise TypeError(f"synonyms is a {type(synonyms).__name__}; pass {{'MARCH8': 'MARCHF8'}}, other name to name.")
    labels, contexts = {}, {}
    for name, adata in screens.items():
        check_context_columns(adata.obs, name, [str(keys[name])], "target_key")
        labels[name] = adata.obs[keys[name]].astype(str)
        controls = _per_modality("control", control)[name]
        contexts[name] = _contexts(labels[name], controls, synonyms or {}, ignore_case)
    if ignore_case:
        contexts = _spell_alike(contexts)
    table = _table(labels, contexts)
    genes = table[~table["is_control"]]
    n_matched = int((genes["status"] == MATCHED).sum())
    if n_matched == 0:
        raise ValueError(_nothing_matches(genes, keys, ignore_case))
    _warn_without_controls(table)
    shared = table.index[table["status"] == MATCHED]
    kept = {}
    for name, adata in screens.items():
        found = contexts[name]
        columns = {context_key: pd.Categorical(found), "target_gene": pd.Categorical(found)}
        columns |= {"is_control": found.to_numpy() == CONTROL, LABEL_KEY: pd.Categorical(labels[name])}
        joined = with_obs(adata, adata.obs.assign(**columns))
        kept[name] = _cut(joined, found.isin(shared).to_numpy(), name) if keep == "matched" else joined
    mdata = build_mudata(**kept)
    parameters = {"target_key": keys, "ignore_case": ignore_case, "keep": keep, "context_key": context_key}
    mdata.uns[UNS_KEY] = {RESULT_KEY: {"table": table, "n_matched": n_matched, "parameters": parameters}}
    return mdata


def _check_is_anndata(name: str, adata: object) -> None:
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"{name} is a {type(adata).__name__}; expected an AnnData: petri_scvi.io.open_screen(path) opens a file of "
            f"one modality, and mdata[{name!r}] is that of a MuData."
        )


def _per_modality(argument: str, value: object) -> dict[str, object]:
    """One value per modality."""
    if not isinstance(value, Mapping):
        return {IMAGE: value, RNA: value}
    if set(value) != {IMAGE, RNA}:
        raise ValueError(f"{argument} has {sorted(value)}; pass one value, or {{{IMAGE!r}: ..., {RNA!r}: ...}}")
    return dict(value)


def _contexts(labels: pd.Series, controls: object, synonyms: Mapping[str, str], ignore_case: bool) -> pd.Series:
    """Context of each cell, by its label."""
    if controls is None:
        raise ValueError("control=None is not accepted; pass the label of non-targeting controls, or several")

    def fold(name: object) -> str:
        return str(name).strip().casefold() if ignore_case else str(name).strip()

    names = {fold(name) for name in ({controls} if isinstance(controls, str) else set(controls))}  # type: ignore[call-overload]
    renamed = {fold(name): context for name, context in synonyms.items()}
    return labels.map(
        {key: CONTROL if fold(key) in names else renamed.get(fold(key), key.strip()) for key in labels.unique()}
    )


def _spell_alike(contexts: dict[str, pd.Series]) -> dict[str, pd.Series]:
    """Contexts that differ in case only get the spelling of the transcriptomes, else of the images."""
    spelling = {CONTROL.casefold(): CONTROL}
    for name in (RNA, IMAGE):
        for context in sorted(contexts[name].unique()):
            spelling.setdefault(context.casefold(), context)
    return {name: found.map(lambda c: spelling[c.casefold()]) for name, found in contexts.items()}


def _table(labels: dict[str, pd.Series], contexts: dict[str, pd.Series]) -> pd.DataFrame:
    """What each screen has of each context."""
    counts = {name: found.value_counts() for name, found in contexts.items()}
    index = pd.Index(sorted(set(counts[IMAGE].index) | set(counts[RNA].index)), name="context")
    numbers = {name: count.reindex(index, fill_value=0).astype(int) for name, count in counts.items()}
    is_in = {name: number > 0 for name, number in numbers.items()}
    status = np.select([is_in[IMAGE] & is_in[RNA], is_in[IMAGE]], [MATCHED, ONLY_IMAGE], ONLY_RNA)
    spelled = {
        name: labels[name].groupby(contexts[name].to_numpy()).agg(lambda found: ", ".join(sorted(found.unique())))
        for name in contexts
    }
    table = pd.DataFrame({"status": status, "is_control": index == CONTROL}, index=index)
    for name in (IMAGE, RNA):
        table[f"n_{name}"] = numbers[name]
    for name in (IMAGE, RNA):
        table[f"{name}_labels"] = spelled[name].reindex(index).fillna("").astype(object)
    return table


def _nothing_matches(genes: pd.DataFrame, keys: Mapping[str, object], ignore_case: bool) -> str:
    """What each screen has instead."""
    examples = {
        name: [str(label) for label in genes.index[genes["status"] == status][:N_EXAMPLES]]
        for name, status in ((IMAGE, ONLY_IMAGE), (RNA, ONLY_RNA))
    }
    folded = genes.groupby(genes.index.str.casefold())["status"].nunique()
    n_alike = int((folded > 1).sum())
    if n_alike and not ignore_case:
        hint = f"{n_alike} differ in case only: pass ignore_case=True"
    else:
        hint = (
            "name the columns with target_key={'image': ..., 'rna': ...}, other names of a gene with "
            "synonyms={...}, and what the screens call non-targeting with control={'image': ..., 'rna': ...}"
        )
    return (
        f"no target gene is in both screens. obs[{keys[IMAGE]!r}] of the images has {examples[IMAGE]}, "
        f"obs[{keys[RNA]!r}] of the transcriptomes has {examples[RNA]}, for example; {hint}"
    )


def _warn_without_controls(table: pd.DataFrame) -> None:
    for name in (IMAGE, RNA):
        if not (table["is_control"] & (table[f"n_{name}"] > 0)).any():
            warnings.warn(
                f"the screen of modality {name!r} has no cells with a non-targeting guide. If it calls them otherwise, "
                f"say so: control={{{IMAGE!r}: ..., {RNA!r}: ...}}.",
                UserWarning,
                stacklevel=3,
            )


def _cut(adata: AnnData, is_kept: np.ndarray, name: str) -> AnnData:
    """Cells of shared contexts, as an AnnData of its own."""
    if is_kept.all():
        return adata
    on_disk = [
        place
        for place, array in (("X", adata.X), *((f"obsm[{key!r}]", value) for key, value in adata.obsm.items()))
        if isinstance(array, np.memmap)
        or not (array is None or isinstance(array, np.ndarray | pd.DataFrame) or sparse.issparse(array))
    ]
    if on_disk:
        raise ValueError(
            f"{', '.join(on_disk)} of the {name} screen lie on disk, and cells of contexts that did not match would "
            "have to be read to be cut off. Pass keep='all'; the table in uns says which contexts matched."
        )
    return adata[is_kept].copy()
