"""The heat map shows every pair, with similar profiles next to each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from scipy import sparse

from petri_scvi import pl
from petri_scvi.pl.guides._profile_similarity import order_by_group


def blocks(n_groups: int = 3, size: int = 4, seed: int = 0) -> AnnData:
    """Profiles of groups that are alike within, in random order."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(n_groups), size))
    vectors = np.eye(n_groups)[group] + 0.1 * rng.normal(size=(len(group), n_groups))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    obs = pd.DataFrame(
        {"pathway": pd.Categorical([f"P{g}" for g in group])}, index=[f"G{i}" for i in range(len(group))]
    )
    return AnnData(obs=obs, obsp={"similarity": vectors @ vectors.T})


def test_the_matrix_is_that_of_obsp_in_the_order_of_the_names():
    profiles = blocks()
    ax = pl.profile_similarity(profiles)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert sorted(names) == sorted(profiles.obs_names)
    rows = profiles.obs_names.get_indexer(names)
    np.testing.assert_array_equal(ax.images[0].get_array(), profiles.obsp["similarity"][np.ix_(rows, rows)])


@pytest.mark.parametrize("group_key", [None, "pathway"])
def test_profiles_that_are_alike_lie_together(group_key):
    profiles = blocks()
    ax = pl.profile_similarity(profiles, group_key=group_key)
    names = [text.get_text() for text in ax.get_yticklabels()]
    pathways = profiles.obs["pathway"].astype(str).loc[names].to_numpy()
    assert (pathways[1:] != pathways[:-1]).sum() == 2


def test_colours_are_centred_on_zero_and_leave_out_the_diagonal():
    profiles = blocks()
    matrix = np.full((12, 12), -0.2)
    np.fill_diagonal(matrix, 1.0)
    profiles.obsp["similarity"] = matrix
    assert pl.profile_similarity(profiles).images[0].get_clim() == (-0.2, 0.2)
    profiles.obsp["similarity"] = np.ones((12, 12))
    assert pl.profile_similarity(profiles).images[0].get_clim() == (-1, 1)


def test_the_strip_and_its_names_follow_the_groups_and_stored_colours():
    profiles = blocks()
    profiles.uns["pathway_colors"] = ["#112233", "#445566", "#778899"]
    ax = pl.profile_similarity(profiles, group_key="pathway")
    strip = next(child for child in ax.child_axes if child.images)
    names = [text.get_text() for text in ax.get_yticklabels()]
    codes = profiles.obs["pathway"].cat.codes.loc[names]
    expected = np.array([to_rgb(profiles.uns["pathway_colors"][code]) for code in codes])
    np.testing.assert_allclose(strip.images[0].get_array()[:, 0], expected)
    assert {text.get_text() for text in ax.texts} == {"P0", "P1", "P2"}
    for text in ax.texts:
        middle = np.flatnonzero(profiles.obs["pathway"].loc[names] == text.get_text()).mean()
        assert text.xy[1] == middle


def test_profiles_without_a_pathway_are_grey_and_apart(genes):
    ax = pl.profile_similarity(genes, group_key="pathway")
    assert "none" in [text.get_text() for text in ax.texts]
    strip = next(child for child in ax.child_axes if child.images)
    row = [text.get_text() for text in ax.get_yticklabels()].index("non-targeting")
    np.testing.assert_allclose(strip.images[0].get_array()[row, 0], [0.85] * 3)


def test_profiles_without_a_similarity_are_left_out_and_counted():
    profiles = blocks()
    profiles.obsp["similarity"][2] = profiles.obsp["similarity"][:, 2] = np.nan
    ax = pl.profile_similarity(profiles)
    assert ax.images[0].get_array().shape == (11, 11)
    assert ax.get_title() == "1 profiles without a similarity left out"
    profiles.obsp["similarity"][:] = np.nan
    with pytest.raises(ValueError, match="0 of 12 profiles"):
        pl.profile_similarity(profiles)


def test_sparse_matrices_are_drawn_alike():
    profiles, stored = blocks(), blocks()
    stored.obsp["similarity"] = sparse.csr_matrix(stored.obsp["similarity"])
    first, second = (pl.profile_similarity(p).images[0].get_array() for p in (profiles, stored))
    np.testing.assert_array_equal(first, second)


def test_names_that_do_not_fit_are_not_drawn_and_names_of_groups_do_not_cover_each_other():
    profiles = blocks(n_groups=60, size=5)
    ax = pl.profile_similarity(profiles, group_key="pathway")
    assert not ax.get_yticklabels()
    assert 10 < len(ax.texts) < 60
    ax.figure.draw_without_rendering()
    boxes = sorted((Text.get_window_extent(text) for text in ax.texts), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in zip(boxes, boxes[1:], strict=False))
    assert min(box.x0 for box in boxes) >= 0


def test_order_is_a_permutation_whatever_the_groups(rng):
    vectors = rng.normal(size=(9, 3))
    similarity = vectors @ vectors.T
    for groups in (["a"] * 9, list("abcdefghi"), ["a", "b"] + ["c"] * 7):
        assert sorted(order_by_group(similarity, np.array(groups))) == list(range(9))


def test_missing_columns_and_matrices_are_named(genes):
    with pytest.raises(KeyError, match="group_key='process' is not a column.*pathway"):
        pl.profile_similarity(genes, group_key="process")
    with pytest.raises(KeyError, match=r"tl\.profile_similarity\(profiles, key_added='cosine'\)"):
        pl.profile_similarity(genes, key="cosine")
