"""Join an image screen and a transcriptome screen by what was targeted."""

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
"""Between genes of combinations; tried on labels without counterpart, for a hint."""


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
        ``{"image": "nontargeting", "rna": "non-targeting"}``. Each must occur; ``None`` is a screen without controls.
    synonyms
        Other names to the name to use, in both screens: ``{"MARCH8": "MARCHF8"}``. One step is taken, no chains.
    separator
        What stands between the genes of a combination, for example ``"+"``: ``"A+B"``, ``"B+A"`` and ``"B+A+control"``
        are then one context, ``"A+B"``, as are ``"A"`` and ``"A+control"``. ``None``: labels are not taken apart.
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
        No target gene is in both screens, a label is missing, a label of controls does not occur, or arrays on disk
        would have to be cut.

    Warns
    -----
    UserWarning
        A screen has no control cells, contexts without counterpart are dropped, or labels are words for missing values.

    Examples
    --------
    >>> image = petri_scvi.datasets.periscope(["ATP6V1A", "TOMM20", "WDR1"])
    >>> rna = petri_scvi.datasets.replogle("rpe1", genes=["ATP6V1A", "TOMM20"])
    >>> mdata = petri_scvi.pp.match_contexts(image, rna)
    >>> mdata.uns["petri_scvi"]["match_contexts"]["table"]
    """
    if keep not in ("matched", "all"):
        raise ValueError(f"keep={keep!r} is not accepted; pass 'matched' or 'all'")
    if separator is not None and not (isinstance(separator, str) and separator.strip()):
        raise ValueError(f"separator={separator!r} is not accepted; pass the text between genes, such as '+', or None")
    check_flags(ignore_case=ignore_case)
    screens = {IMAGE: image, RNA: rna}
    for name, adata in screens.items():
        _check_is_anndata(name, adata)
    keys = per_modality("target_key", target_key)
    if synonyms is not None and not isinstance(synonyms, Mapping):
        raise TypeError(f"synonyms is a {type(synonyms).__name__}; pass {{'MARCH8': 'MARCHF8'}}, other name to name.")
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
            f"{name} is a {type(adata).__name__}; expected an AnnData: petri_scvi.io.open_screen(path) opens a file of "
            f"one modality, and mdata[{name!r}] is that of a MuData."
        )


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
    only = (genes.index[genes["status"] == status] for status in (ONLY_IMAGE, ONLY_RNA))
    if other_order := _other_order(*only):
        hint = other_order
    elif n_alike and not ignore_case:
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


def _warn_without_controls(table: pd.DataFrame, labels: Mapping[str, pd.Series]) -> None:
    for name, found_labels in labels.items():
        if not (table["is_control"] & (table[f"n_{name}"] > 0)).any():
            alike = control_like(found_labels.unique())
            found = f" These labels look like controls: {alike[:N_EXAMPLES]}." if alike else ""
            warn(
                f"the screen of modality {name!r} has no cells with a non-targeting guide.{found} If it calls them "
                f"otherwise, say so: control={{{IMAGE!r}: ..., {RNA!r}: ...}}."
            )


def _warn_dropped(table: pd.DataFrame, separator: str | None) -> None:
    """Count the contexts without counterpart, and look for a reason."""
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
        f"contexts without counterpart are dropped: {' and '.join(told)}. {hint}keep='all' keeps their cells; "
        f"mdata.uns[{UNS_KEY!r}][{RESULT_KEY!r}]['table'] lists them"
    )


def _other_order(image: Iterable[str], rna: Iterable[str]) -> str:
    """Whether contexts of both screens are combinations of the same genes, for a message."""
    for mark in SEPARATORS:
        sets = [{frozenset(context.split(mark)) for context in found if mark in context} for found in (image, rna)]
        if n_alike := len(sets[0] & sets[1]):
            return f"{n_alike} combinations of both differ only in the order of their genes: pass separator={mark!r}. "
    return ""


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
