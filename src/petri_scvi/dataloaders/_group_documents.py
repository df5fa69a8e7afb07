"""Which contexts share a document that is drawn by group. Integers in, integers out."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

GROUP_SHARE = 0.5
"""Share of training documents that are drawn by group, where there are groups."""


def groups_by_modalities(
    groups: Sequence[NDArray[np.integer]], contexts_of: Mapping[tuple[str, ...], NDArray[np.integer]]
) -> dict[tuple[str, ...], dict[int, NDArray[np.integer]]]:
    """Contexts of each group that were measured in the same modalities, if there are two of them at least.

    All documents of a minibatch hold the same modalities, so a group is divided by the modalities of its contexts.

    Parameters
    ----------
    groups
        Context codes of each group.
    contexts_of
        Context codes by the modalities that they were measured in.

    Returns
    -------
    By modalities: code of the group in :class:`petri_scvi.dataloaders.DocumentRows` to its contexts.

    Raises
    ------
    ValueError
        No group has two contexts that were measured in the same modalities.
    """
    found: dict[tuple[str, ...], dict[int, NDArray[np.integer]]] = {}
    for modalities, contexts in contexts_of.items():
        shared = {code_of_group(i): np.intersect1d(group, contexts) for i, group in enumerate(groups)}
        found[modalities] = {code: members for code, members in shared.items() if len(members) > 1}
    if groups and not any(found.values()):
        raise ValueError(
            f"none of {len(groups)} groups has training cells of two contexts that were measured in the same "
            "modalities, so no document can be drawn by group. Pass other context_groups, or none."
        )
    return found


def check_group_share(share: Any, has_groups: bool, n_cells: int) -> float | None:
    """Share of documents that are drawn by group; ``None`` without groups.

    Raises
    ------
    ValueError
        The share is out of range, there are no groups, or a document is too small for cells of two contexts.
    """
    if not has_groups:
        if share is not None:
            raise ValueError(
                f"group_share={share!r} has no effect without groups. Name them when the data is set up, "
                "PETRI.setup_mudata(mdata, context_groups=...), or leave group_share out."
            )
        return None
    share = GROUP_SHARE if share is None else share
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 < float(share) <= 1:
        raise ValueError(
            f"group_share={share!r}; pass a share of the documents above 0 and up to 1, such as group_share=0.5. To "
            "draw no document by group, set the data up without context_groups."
        )
    if n_cells < 2:
        raise ValueError(
            f"n_cells_per_context={n_cells}: a document of a group holds cells of two contexts at least. Pass "
            "n_cells_per_context=8, or set the data up without context_groups."
        )
    return float(share)


def code_of_group(group: int) -> int:
    """Code of a document of a group; those of contexts are not negative."""
    return -1 - group


def draw_documents(
    contexts: NDArray[np.integer],
    groups: Mapping[int, NDArray[np.integer]],
    share: float,
    n: int,
    rng: np.random.Generator,
) -> NDArray[np.integer]:
    """Codes of n documents: each context once before any comes again, and the same for groups.

    Parameters
    ----------
    contexts
        Context codes.
    groups
        Contexts by code of the group.
    share
        Share of the documents that are of groups, evenly spread, so that every minibatch has its share.
    n
        Number of documents.
    rng
        Source of the order.
    """
    if not groups:
        return _passes(contexts, n, rng)
    is_group = np.diff(np.floor(np.round(np.arange(n + 1) * share, 9) + rng.random())) > 0
    drawn = np.empty(n, dtype=np.int64)
    drawn[~is_group] = _passes(contexts, int((~is_group).sum()), rng)
    drawn[is_group] = _passes(np.array(sorted(groups)), int(is_group.sum()), rng)
    return drawn


def cells_per_member(members: NDArray[np.integer], n_cells: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Contexts of a document of a group and how many of its cells each has: equally many up to one, some have none."""
    order = rng.permutation(members)[:n_cells]
    n_each = np.bincount(np.arange(n_cells) % len(order), minlength=len(order))
    return list(zip(order.tolist(), n_each.tolist(), strict=True))


def _passes(codes: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[Any]:
    """Codes in random order, then in another one, and so on, until there are n."""
    n_passes = -(-n // len(codes))
    return np.concatenate([codes[:0], *[rng.permutation(codes) for _ in range(n_passes)]])[:n]
