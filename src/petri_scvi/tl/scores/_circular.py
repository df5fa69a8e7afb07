"""Pairs of genes that share a group with which the embedding was trained; to find them again is no evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import sparse

from petri_scvi._groups import Groups, read_groups, recorded_groups
from petri_scvi.common._warn import warn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

LeftOut: TypeAlias = bool | Groups
"""Groups whose pairs are not scored; ``True`` for those that the model was trained with."""


def groups_to_leave_out(data: AnnData | MuData, leave_out_groups: LeftOut) -> dict[str, list[str]]:
    """Groups whose pairs are not scored; empty if all are.

    Raises
    ------
    ValueError
        The groups of the model are asked for and the data records none.
    """
    if leave_out_groups is False or leave_out_groups is None:
        return {}
    if leave_out_groups is not True:
        return read_groups(leave_out_groups, "leave_out_groups")
    if groups := recorded_groups(data):
        return groups
    raise ValueError(
        "leave_out_groups=True, but uns['petri_scvi'] records no context_groups: no model that was trained with them "
        "embedded this data. Pass the groups, leave_out_groups={'proteasome': ['PSMA1', 'PSMB5']} or the path of a GMT "
        "file, or leave it out."
    )


def pairs_in_groups(groups: Mapping[str, Sequence[str]], genes: Sequence[Any] | NDArray[Any]) -> NDArray[np.intp]:
    """Pairs of genes that share a group, as row numbers, shape ``(n_pairs, 2)``; case of names is ignored."""
    rows = {str(gene).strip().upper(): row for row, gene in enumerate(genes)}
    places = [
        (group, rows[name])
        for group, members in enumerate(groups.values())
        for name in {member.strip().upper() for member in members}
        if name in rows
    ]
    group, row = np.array(places, dtype=np.intp).reshape(-1, 2).T
    is_member = sparse.csr_matrix((np.ones(len(row), np.int32), (group, row)), shape=(len(groups), len(genes)))
    one, other = sparse.triu(is_member.T @ is_member, k=1).nonzero()
    return np.stack([one, other], axis=1).astype(np.intp)[np.lexsort((other, one))]


def warn_if_circular(data: AnnData | MuData, positive: NDArray[np.intp], genes: NDArray[Any]) -> None:
    """Warn about known pairs that share a group of the model.

    Parameters
    ----------
    data
        Data that may record groups.
    positive
        Known pairs as row numbers, the smaller one first, shape ``(n, 2)``.
    genes
        Gene of each row.
    """
    groups = recorded_groups(data)
    if not groups:
        return
    shared = pairs_in_groups(groups, genes)
    n = len(genes)
    n_shared = int(np.isin(positive @ [n, 1], shared @ [n, 1]).sum())
    if n_shared:
        warn(
            f"{n_shared} of {len(positive)} known pairs share a group of context_groups, with which a model was "
            "trained that embedded this data. To find these pairs in its embedding is no evidence, since their cells "
            "shared documents. Pass leave_out_groups=True to score pairs that share no group."
        )
