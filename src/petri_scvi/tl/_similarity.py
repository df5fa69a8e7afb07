"""Similarity of profiles: the cosine of their vectors, or a given similarity matrix."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from petri_scvi.common._numbers import check_numbers
from petri_scvi.common._warn import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

MAX_GATHERED = 4_000_000
"""Numbers held at once when many sets of rows are compared."""

BLOCK = 500_000
"""Similarities computed at once when all pairs are compared."""
MANY_PAIRS = 2_000_000
"""Above this number pairs are compared in single precision: one swap of ranks changes no rate by more than 1e-6."""


@dataclass(frozen=True)
class Similarities:
    """Unit vectors, shape ``(n, D)``, or, if these are ``None``, similarities, shape ``(n, n)``."""

    unit: NDArray[np.float64] | None
    matrix: NDArray[np.float64] | None = None

    def of_sets(self, members: NDArray[np.intp]) -> NDArray[np.float64]:
        """Mean similarity over the distinct pairs of each set; members has shape ``(n_sets, size)``."""
        n_sets, size = members.shape
        if self.unit is None:
            assert self.matrix is not None
            total = np.zeros(n_sets)
            for a, b in combinations(range(size), 2):
                total += self.matrix[members[:, a], members[:, b]]
            return total / (size * (size - 1) / 2)
        squared_norm = np.empty(n_sets)
        step = max(1, MAX_GATHERED // self.unit.shape[1])
        for start in range(0, n_sets, step):
            rows = members[start : start + step]
            total_vector = self.unit[rows[:, 0]]
            for column in rows.T[1:]:
                total_vector += self.unit[column]
            squared_norm[start : start + step] = np.einsum("ij,ij->i", total_vector, total_vector)
        return (squared_norm - size) / (size * (size - 1))

    def of_all_pairs(self) -> NDArray[np.floating[Any]]:
        """Similarity of every unordered pair, ordered as by :func:`numpy.triu_indices` with ``k=1``."""
        n = len(self.matrix if self.unit is None else self.unit)  # type: ignore[arg-type]
        dtype = np.float32 if self.unit is not None and n * (n - 1) // 2 > MANY_PAIRS else np.float64
        vectors = None if self.unit is None else self.unit.astype(dtype)
        compared = Similarities(vectors, self.matrix)  # type: ignore[arg-type]
        condensed: NDArray[np.floating[Any]] = np.empty(n * (n - 1) // 2, dtype=dtype)
        step, filled = max(1, BLOCK // n), 0  # blocks that fit into the cache
        for start in range(0, n, step):
            block = compared.between(np.arange(start, min(start + step, n)), start)
            for i, row in enumerate(block):
                condensed[filled : filled + len(row) - i - 1] = row[i + 1 :]
                filled += len(row) - i - 1
        return condensed

    def between(self, rows: NDArray[np.intp], first: int = 0) -> NDArray[np.float64]:
        """Similarity of some profiles to all profiles from ``first`` on."""
        if self.unit is None:
            assert self.matrix is not None
            return self.matrix[rows][:, first:]
        return self.unit[rows] @ self.unit[first:].T


def pair_index(first: NDArray[np.intp], second: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Position of each pair of row numbers in the order of :meth:`Similarities.of_all_pairs`."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    return low * (2 * n - low - 1) // 2 + high - low - 1


def read_similarities(
    profiles: AnnData, rows: NDArray[np.intp], *, layer: str | None, similarity_key: str | None
) -> tuple[Similarities, NDArray[np.intp]]:
    """Compare the given rows of a table of profiles.

    Parameters
    ----------
    profiles
        One profile per row.
    rows
        Rows to use.
    layer
        Use this layer instead of ``X``.
    similarity_key
        Use this ``obsp`` matrix instead of cosines.

    Returns
    -------
    Their similarities, and the rows they cover. Profiles with NaN and profiles of length zero have no direction: they
    are left out, and a warning reports how many.
    """
    if similarity_key is not None:
        if similarity_key not in profiles.obsp:
            raise KeyError(
                f"similarity_key={similarity_key!r} is not in profiles.obsp, which has {sorted(profiles.obsp)}. "
                "petri_scvi.tl.late_fusion(..., method='max_cosine') and petri_scvi.tl.profile_similarity write one."
            )
        matrix = profiles.obsp[similarity_key]
        matrix = matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)
        check_numbers(matrix, f"profiles.obsp[{similarity_key!r}]")
        matrix = np.asarray(matrix[np.ix_(rows, rows)], dtype=np.float64)
        if not np.allclose(matrix, matrix.T, rtol=1e-4, atol=1e-6, equal_nan=True):
            raise ValueError(
                f"profiles.obsp[{similarity_key!r}] is not symmetric, so the similarity of two profiles depends on "
                "their order. Fill in both triangles, for example with their mean, (matrix + matrix.T) / 2."
            )
        # A profile without a direction has NaN on its diagonal, one that lacks a partner may have NaN elsewhere.
        is_usable = np.isfinite(np.diag(matrix))
        is_usable[is_usable] = np.isfinite(matrix[np.ix_(is_usable, is_usable)]).all(axis=1)
        _warn_left_out(~is_usable, profiles.obs_names[rows])
        return Similarities(None, matrix[np.ix_(is_usable, is_usable)]), rows[is_usable]
    if layer is None and profiles.X is None:
        raise ValueError(
            f"profiles.X is empty; pass similarity_key, one of {sorted(profiles.obsp)}, to use similarities instead"
        )
    vectors = read_vectors(profiles, layer)[rows]
    is_usable = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
    _warn_left_out(~is_usable, profiles.obs_names[rows])
    return Similarities(unit_rows(vectors[is_usable])), rows[is_usable]


def read_vectors(profiles: AnnData, layer: str | None = None) -> NDArray[np.float64]:
    """Profiles as a float64 matrix."""
    if layer is not None and layer not in profiles.layers:
        raise KeyError(f"layer={layer!r} is not in profiles.layers, which has {sorted(filter(None, profiles.layers))}")
    matrix = profiles.X if layer is None else profiles.layers[layer]
    if matrix is None:
        raise ValueError(
            "profiles.X is empty: late_fusion(..., method='max_cosine') returns similarities only. Pass profiles with "
            "vectors, those before fusion; for genes, petri_scvi.tl.aggregate_guides each of them first, then fuse."
        )
    check_numbers(matrix, "profiles.X" if layer is None else f"profiles.layers[{layer!r}]")
    return np.array(matrix.toarray() if sparse.issparse(matrix) else matrix, dtype=np.float64)


def unit_rows(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows scaled to length 1; zero and NaN rows become NaN."""
    # Dividing by the largest entry first keeps very long and very short rows from overflowing.
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        vectors = vectors / largest
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _warn_left_out(is_left_out: NDArray[np.bool_], names: Sequence[str]) -> None:
    n = int(is_left_out.sum())
    if n:
        first = names[int(np.flatnonzero(is_left_out)[0])]
        warn(f"{n} of {len(names)} profiles are NaN or zero, for example {first!r}; they are left out")
