"""Documents of given cells, after training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi.dataloaders import rows_by_context
from petri_scvi.model._documents import RandomMask, arrange_documents, random_mask

if TYPE_CHECKING:
    from petri_scvi.dataloaders import DocumentRows

CODES = {
    "image": np.array([0, 1, 2, 0, 1, 2, 3, 3, 0]),
    "rna": np.array([2, 2, 1, 1, 0, 4, 4, 0]),
}
"""Contexts 0 to 2 have both modalities, 3 images only, 4 transcriptomes only."""


@pytest.fixture
def companions() -> dict[str, dict[int, Any]]:
    return {name: rows_by_context(codes) for name, codes in CODES.items()}


def arrange(
    targets: list[int], companions: dict[str, Any], modality: str = "image", n_cells: int = 2
) -> list[tuple[DocumentRows, Any]]:
    return arrange_documents(
        np.array(targets), CODES[modality], modality, companions, n_cells, np.random.default_rng(0)
    )


def test_every_target_is_placed_exactly_once_at_the_front_of_a_document(companions: dict[str, Any]) -> None:
    targets = [8, 1, 3, 0, 6, 5]
    documents = arrange(targets, companions)
    placed = np.concatenate([positions for _, positions in documents])
    assert sorted(placed.tolist()) == list(range(6))
    for document, positions in documents:
        front = document.rows["image"][0, : len(positions)]
        assert front.tolist() == [targets[position] for position in positions]


def test_documents_hold_one_context_and_are_full(companions: dict[str, Any]) -> None:
    for document, positions in arrange([0, 1, 2, 3, 6], companions, n_cells=4):
        (context,) = document.context.tolist()
        assert 1 <= len(positions) <= 4
        for name, rows in document.rows.items():
            assert rows.shape == (1, 4)
            assert (CODES[name][rows] == context).all()


def test_a_target_is_never_its_own_companion(companions: dict[str, Any]) -> None:
    """A second copy of a target would show what is hidden of the first."""
    for document, positions in arrange([0, 3, 1], companions, n_cells=12):
        targets, drawn = np.split(document.rows["image"][0], [len(positions)])
        assert len(drawn) == 12 - len(positions)
        assert not set(targets) & set(drawn)


def test_a_document_without_other_cells_of_its_modality_stays_smaller(companions: dict[str, Any]) -> None:
    ((document, _),) = arrange([0, 3, 8], companions, n_cells=4)  # all cells of context 0
    assert document.rows["image"].tolist() == [[0, 3, 8]]
    assert document.rows["rna"].shape == (1, 4)
    ((document, _),) = arrange([6], {"image": {0: np.array([0])}}, n_cells=3)  # none of context 3 may be drawn
    assert document.rows["image"].tolist() == [[6]]


def test_cells_of_a_context_share_documents(companions: dict[str, Any]) -> None:
    documents = arrange([0, 3, 8], companions, n_cells=2)  # three cells of context 0
    assert [len(positions) for _, positions in documents] == [2, 1]


def test_a_context_absent_in_the_other_modality_makes_documents_of_its_own(companions: dict[str, Any]) -> None:
    ((document, _),) = arrange([6], companions)
    assert document.context.tolist() == [3]
    assert list(document.rows) == ["image"]


def test_documents_are_filled_with_the_companions_given_only() -> None:
    allowed = {"image": {0: np.array([3])}, "rna": {0: np.array([7])}}
    ((document, _),) = arrange([8], allowed, n_cells=3)
    assert {name: rows.tolist() for name, rows in document.rows.items()} == {"image": [[8, 3, 3]], "rna": [[7, 7, 7]]}


def test_a_target_that_comes_twice_is_placed_in_two_documents(companions: dict[str, Any]) -> None:
    documents = arrange([8, 8, 0, 8], companions, n_cells=4)
    fronts = [[[8, 8, 0, 8][i] for i in positions] for _, positions in documents]
    assert sorted(map(sorted, fronts)) == [[0, 8], [8], [8]]
    for document, positions in documents:
        others = document.rows["image"][0, len(positions) :]
        assert not set(others) & set(document.rows["image"][0, : len(positions)])


def test_no_targets_need_no_documents(companions: dict[str, Any]) -> None:
    assert (
        arrange_documents(np.array([], dtype=int), CODES["rna"], "rna", companions, 2, np.random.default_rng(0)) == []
    )


@pytest.mark.parametrize("n_tokens", [1, 7, 16])
def test_masks_of_some_cells_are_those_of_all_cells(n_tokens: int) -> None:
    noise = np.random.default_rng(3).random((700, n_tokens), dtype=np.float32)
    expected = noise.argsort(axis=1).argsort(axis=1) >= n_tokens - int(n_tokens * 0.75)
    np.testing.assert_array_equal(random_mask(700, n_tokens, 0.75, seed=3), expected)
    some = RandomMask(n_tokens, 0.75, seed=3)
    for positions in ([5], [699, 0, 1, 2, 1], list(range(100, 300)), []):
        chosen = np.array(positions, dtype=int)
        np.testing.assert_array_equal(some[chosen], expected[chosen])
        np.testing.assert_array_equal(some[chosen], expected[chosen])
