"""Join an image screen and a transcriptome screen by target gene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from petri_scvi._checks import check_context_columns, check_flags
from petri_scvi._constants import CONTEXT_KEY, CONTROL, IMAGE, RNA, UNS_KEY
from petri_scvi.common._labels import control_like, read_labels
from petri_scvi.common._warn import warn
from petri_scvi.pp._folding import Folding, contexts_of_labels, per_modality
from petri_scvi.pp._mudata import build_mudata, with_obs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mudata import MuData

    from petri_scvi.common._labels import Labels

RESULT_KEY, LABEL_KEY = "match_contexts", "source_label"
MATCHED, ONLY_IMAGE, ONLY_RNA = "matched", "only image", "only rna"
N_EXAMPLES = 5

SEPARATORS = ("+", "|", ";", ",", "&", "_", "-")
"""Common separators of combinations; tried on labels without a counterpart to give a hint."""


def match_contexts(
    image: AnnData,
    rna: AnnData,
    *,
    target_key: str | Mapping[str, str] = "target_gene",
    control: Labels | Mapping[str, Labels | None] | None = CONTROL,
    synonyms: Mapping[str, str] | None = None,
    separator: str | None = None,
    ignore_case: bool = False,
    keep: Literal["matched", "all"] = "matched",
    context_key: str = CONTEXT_KEY,
) -> MuData:
    """Join two screens of different cells by target gene, and report what matched.

    Labels are compared after surrounding spaces are removed and ``synonyms`` are applied, and case counts unless
    ``ignore_case`` is set. Labels of non-targeting guides, which differ between screens, become the context
    ``"non-targeting"``.

    Parameters
    ----------
    image, rna
        Cells of each screen. They are not changed.
    target_key
        ``obs`` column with the target of each cell: one name, or one per modality,
        ``{"image": "gene_symbol", "rna": "gene"}``.
    control
        Label of cells whose guide targets no gene: one label, several, or either per modality,
        ``{"image": "nontargeting", "rna": "non-targeting"}``. Each label must occur. ``None`` means that a screen has
        no controls.
    synonyms
        Maps other names to the name to use in both screens: ``{"MARCH8": "MARCHF8"}``. Chains are not followed.
    separator
        Text between the genes of a combination, for example ``"+"``: ``"A+B"``, ``"B+A"`` and ``"B+A+control"`` are
        then one context, ``"A+B"``, as are ``"A"`` and ``"A+control"``. If ``None``, labels are not split.
    ignore_case
        Whether names that differ only in case, such as ``Tomm20`` and ``TOMM20``, are equal. The spelling of the
        transcriptomes is used.
    keep
        ``"matched"`` keeps the cells of contexts that occur in both screens, including controls. ``"all"`` keeps every
        cell; PETRI then trains contexts of one screen in documents of one modality.
    context_key
        Column to which the context is written.

    Returns
    -------
    MuData of both screens. If cells of the two share a name, the modality is prefixed to all names.

    - ``obs`` of each modality: ``context_key`` and ``target_gene``, the context; ``is_control``; ``source_label``, the
      original label.
    - ``uns["petri_scvi"]["match_contexts"]``: ``table``, one row per context with ``status`` (``"matched"``,
      ``"only image"`` or ``"only rna"``), ``is_control``, the numbers of cells ``n_image`` and ``n_rna``, and the
      original labels ``image_labels`` and ``rna_labels``; ``n_matched``, the number of matched target genes; and
      ``parameters``.

    Raises
    ------
    KeyError
        A column is missing.
    TypeError
        A screen is not an AnnData, or ``synonyms`` is not a mapping.
    ValueError
        No target gene is in both screens, a label is missing, a label of controls does not occur, or cells would have
        to be removed from arrays on disk.

    Warns
    -----
    UserWarning
        A screen has no control cells, contexts without a counterpart are dropped, or labels look like missing values
        that were converted to text.

    Examples
    --------
    >>> image = petri_scvi.datasets.periscope(["ATP6V1A", "TOMM20", "WDR1"])
    >>> rna = petri_scvi.datasets.replogle("rpe1", genes=["ATP6V1A", "TOMM20"])
    >>> mdata = petri_scvi.pp.match_contexts(image, rna)
    >>> mdata.uns["petri_scvi"]["match_contexts"]["table"]
    """
    if keep not in ("matched", "all"):
        raise ValueError(f"keep={keep!r} is not accepted; pass 'matched' or 'all'.")
    if separator is not None and not (isinstance(separator, str) and separator.strip()):
        raise ValueError(f"separator={separator!r} is not accepted; pass the text between genes, such as '+', or None.")
    check_flags(ignore_case=ignore_case)
    screens = {IMAGE: image, RNA: rna}
    for name, adata in screens.items():
        _check_is_anndata(name, adata)
    keys = per_modality("target_key", target_key)
    if synonyms is not None and not isinstance(synonyms, Mapping):
        raise TypeError(
            f"synonyms is a {type(synonyms).__name__}; pass a mapping of other names to names: {{'MARCH8': 'MARCHF8'}}."
        )
    labels = {}
    for name, adata in screens.items():
        column: Any = keys[name]
        check_context_columns(adata.obs, name, [column], "target_key")
        labels[name] = read_labels(adata.obs, column, f"{name}.obs", argument="target_key")
    contexts = contexts_of_labels(labels, control, Folding(synonyms or {}, separator, ignore_case))
    table = _table(labels, contexts)
    genes = table[~table["is_control"]]
    n_matched = int((genes["status"] == MATCHED).sum())
    if n_matched == 0:
        raise ValueError(_nothing_matches(genes, keys, ignore_case))
    wanted = per_modality("control", control)
    _warn_without_controls(table, {name: found for name, found in labels.items() if wanted[name] is not None})
    if keep == "matched":
        _warn_dropped(table, separator)
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
    parameters |= {} if separator is None else {"separator": separator}
    mdata.uns[UNS_KEY] = {RESULT_KEY: {"table": table, "n_matched": n_matched, "parameters": parameters}}
    return mdata


def _check_is_anndata(name: str, adata: object) -> None:
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"{name} is a {type(adata).__name__}; expected an AnnData. Open a file of one modality with "
            f"petri_scvi.io.open_screen(path), or pass mdata[{name!r}] of a MuData."
        )


def _table(labels: dict[str, pd.Series], contexts: dict[str, pd.Series]) -> pd.DataFrame:
    """Cells and original labels of each context in each screen."""
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
    """Error message with examples from both screens and the most likely remedy."""
    examples = {
        name: [str(label) for label in genes.index[genes["status"] == status][:N_EXAMPLES]]
        for name, status in ((IMAGE, ONLY_IMAGE), (RNA, ONLY_RNA))
    }
    folded = genes.groupby(genes.index.str.casefold())["status"].nunique()
    n_alike = int((folded > 1).sum())
    only = (genes.index[genes["status"] == status] for status in (ONLY_IMAGE, ONLY_RNA))
    if other_order := _other_order(*only):
        hint = other_order
    elif n_alike and not ignore_case:
        hint = f"{n_alike} genes differ only in case: pass ignore_case=True."
    else:
        hint = (
            "Name the columns with target_key={'image': ..., 'rna': ...}, other names of genes with synonyms={...}, "
            "and the labels of non-targeting guides with control={'image': ..., 'rna': ...}."
        )
    return (
        f"no target gene is in both screens. obs[{keys[IMAGE]!r}] of the images has for example {examples[IMAGE]}, "
        f"and obs[{keys[RNA]!r}] of the transcriptomes {examples[RNA]}. {hint}"
    )


def _warn_without_controls(table: pd.DataFrame, labels: Mapping[str, pd.Series]) -> None:
    for name, found_labels in labels.items():
        if not (table["is_control"] & (table[f"n_{name}"] > 0)).any():
            alike = control_like(found_labels.unique())
            found = f" These labels look like controls: {alike[:N_EXAMPLES]}." if alike else ""
            warn(
                f"modality {name!r} has no cells with a non-targeting guide.{found} If they have another label, pass "
                f"it: control={{{IMAGE!r}: ..., {RNA!r}: ...}}."
            )


def _warn_dropped(table: pd.DataFrame, separator: str | None) -> None:
    """Count the contexts without a counterpart, and look for a reason."""
    dropped = {name: table.index[table["status"] == status] for name, status in ((IMAGE, ONLY_IMAGE), (RNA, ONLY_RNA))}
    told = [
        f"{len(names)} contexts ({table.loc[names, f'n_{name}'].sum()} cells) of {name!r}, for example "
        f"{[str(context) for context in names[:N_EXAMPLES]]}"
        for name, names in dropped.items()
        if len(names)
    ]
    if not told:
        return
    hint = _other_order(dropped[IMAGE], dropped[RNA]) if separator is None else ""
    warn(
        f"contexts without a counterpart are dropped: {' and '.join(told)}. {hint}keep='all' keeps their cells; "
        f"mdata.uns[{UNS_KEY!r}][{RESULT_KEY!r}]['table'] lists the contexts."
    )


def _other_order(image: Iterable[str], rna: Iterable[str]) -> str:
    """Hint for combinations of the same genes in another order; empty if there are none."""
    for mark in SEPARATORS:
        sets = [{frozenset(context.split(mark)) for context in found if mark in context} for found in (image, rna)]
        if n_alike := len(sets[0] & sets[1]):
            return f"{n_alike} combinations differ only in the order of their genes: pass separator={mark!r}. "
    return ""


def _cut(adata: AnnData, is_kept: np.ndarray, name: str) -> AnnData:
    """Copy of the cells of shared contexts."""
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
            f"{', '.join(on_disk)} of the {name} screen are on disk, and would have to be read to remove the cells of "
            "contexts that did not match. Pass keep='all'; the table in uns lists which contexts matched."
        )
    return adata[is_kept].copy()
