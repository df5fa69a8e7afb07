"""Cosine similarity of profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from petri_scvi.tl._results import data_to_change, write_result
from petri_scvi.tl._similarity import read_vectors, unit_rows

from ._late_fusion import SIMILARITY_KEY

if TYPE_CHECKING:
    from anndata import AnnData


def profile_similarity(
    profiles: AnnData, *, layer: str | None = None, key_added: str = SIMILARITY_KEY, copy: bool = False
) -> AnnData | None:
    """Compute the cosine similarity of every pair of profiles.

    Parameters
    ----------
    profiles
        Profiles, from :func:`petri_scvi.tl.aggregate_profiles`.
    layer
        Use this layer, for example a modality, instead of ``X``.
    key_added
        Name of the result.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``obsp[key_added]``, shape ``(n_profiles, n_profiles)``, NaN for profiles that are NaN
    or zero, and ``uns["petri_scvi"][key_added]`` with the parameters.

    Raises
    ------
    KeyError
        The layer is missing.
    """
    profiles = data_to_change(profiles, copy)
    unit = unit_rows(read_vectors(profiles, layer))
    profiles.obsp[key_added] = unit @ unit.T
    write_result(profiles, key_added, {}, {"layer": layer})
    return profiles if copy else None
