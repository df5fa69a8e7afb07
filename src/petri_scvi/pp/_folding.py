"""Decide which labels of two screens name the same context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from petri_scvi._constants import CONTROL, IMAGE, RNA
from petri_scvi.common._labels import check_controls, label_list

NO_CONTROLS = ", or None for a screen without controls."


def per_modality(argument: str, value: object) -> dict[str, object]:
    """One value per modality."""
    if not isinstance(value, Mapping):
        return {IMAGE: value, RNA: value}
    if set(value) != {IMAGE, RNA}:
        raise ValueError(
            f"{argument} has the keys {sorted(value)}; pass one value, or {{{IMAGE!r}: ..., {RNA!r}: ...}}."
        )
    return dict(value)


@dataclass(frozen=True)
class Folding:
    """Rules by which labels become contexts."""

    synonyms: Mapping[str, str]
    separator: str | None
    ignore_case: bool

    def fold(self, name: object) -> str:
        """Canonical form of a name; names that count as equal have the same one."""
        return str(name).strip().casefold() if self.ignore_case else str(name).strip()

    def genes(self, label: str, controls: set[str]) -> list[str]:
        """Target genes of a label in alphabetical order, without ``controls`` (folded); empty for a control."""
        renamed = {self.fold(name): gene for name, gene in self.synonyms.items()}
        whole = self.fold(label)
        if whole in controls:
            return []
        parts = [label] if self.separator is None or whole in renamed else label.split(self.separator.strip())
        folded = {self.fold(part): part.strip() for part in sorted(parts, reverse=True) if part.strip()}
        found = {renamed.get(name, part) for name, part in folded.items() if name not in controls}
        return sorted({self.fold(gene): gene for gene in sorted(found, reverse=True)}.values(), key=self.fold)


def contexts_of_labels(labels: Mapping[str, pd.Series], control: object, folding: Folding) -> dict[str, pd.Series]:
    """Context of each cell of each screen.

    Parameters
    ----------
    labels
        Labels of each screen, as text.
    control
        Labels of controls, for both screens or per screen; ``None`` if there are none.
    folding
        Rules by which labels become contexts.
    """
    contexts = {}
    wanted = per_modality("control", control)
    for name, values in labels.items():
        controls: list[str] = []
        if wanted[name] is not None:
            controls = [folding.fold(label) for label in label_list(cast("Any", wanted[name]), "control")]
            tables = {name: values} if isinstance(control, Mapping) else labels
            check_controls({f"{' or '.join(tables)}.obs": _folded(tables, folding)}, controls, remedy=NO_CONTROLS)
        of_label = {label: folding.genes(label, set(controls)) for label in values.unique()}
        contexts[name] = values.map(
            {label: (folding.separator or "").join(genes) or CONTROL for label, genes in of_label.items()}
        )
    return _spell_alike(contexts) if folding.ignore_case else contexts


def _folded(tables: Mapping[str, pd.Series], folding: Folding) -> pd.Series:
    """All labels and all genes of combinations, folded: a label of controls must be one of these."""
    every = {label for values in tables.values() for label in values.unique()}
    genes = {gene for label in every for gene in folding.genes(label, set())}
    return pd.Series(sorted({folding.fold(label) for label in every | genes}))


def _spell_alike(contexts: dict[str, pd.Series]) -> dict[str, pd.Series]:
    """Spell contexts that differ only in case as the transcriptomes do, or else as the images do."""
    spelling = {CONTROL.casefold(): CONTROL}
    for name in (RNA, IMAGE):
        for context in sorted(contexts[name].unique()):
            spelling.setdefault(context.casefold(), context)
    return {name: found.map(lambda c: spelling[c.casefold()]) for name, found in contexts.items()}
