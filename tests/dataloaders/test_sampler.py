from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi.dataloaders import DocumentSampler, rows_by_context

if TYPE_CHECKING:
    from petri_scvi.dataloaders import DocumentRows

CODES = {
    "image": np.array([0, 1, 2, 0, 1, 2, 3, 3, 0]),
    "rna": np.array([2, 2, 1, 1, 0, 4, 4, 0]),
}
"""Contexts 0 to 2 have both modalities, 3 images only, 4 transcriptomes only."""
PAIRED = {"image": np.repeat(np.arange(5), 4), "rna": np.tile(np.arange(5), 3)}
"""Five contexts with both modalities."""


def sampler(codes: dict[str, Any] = CODES, n_contexts: int = 2, n_cells: int = 3, **settings: Any) -> DocumentSampler:
    return DocumentSampler({n: rows_by_context(c) for n, c in codes.items()}, n_contexts, n_cells, **settings)


def epoch_of(documents: DocumentSampler, epoch: int = 0) -> list[DocumentRows]:
    documents.set_epoch(epoch)
    return list(documents)


def as_lists(minibatches: list[DocumentRows]) -> list[Any]:
    return [(m.context.tolist(), {name: rows.tolist() for name, rows in m.rows.items()}) for m in minibatches]


# Grouping


def test_rows_are_grouped_by_their_context() -> None:
    groups = rows_by_context(np.array([5, 2, 5, 2, 9]))
    assert {context: rows.tolist() for context, rows in groups.items()} == {2: [1, 3], 5: [0, 2], 9: [4]}


def test_only_the_rows_given_are_grouped() -> None:
    groups = rows_by_context(np.array([5, 2, 5, 2, 9]), np.array([3, 0]))
    assert {context: rows.tolist() for context, rows in groups.items()} == {2: [3], 5: [0]}
    assert rows_by_context(np.array([5, 2]), np.array([], dtype=int)) == {}
    assert rows_by_context(np.array([], dtype=int)) == {}


# Documents


def test_a_minibatch_has_g_contexts_and_s_rows_of_each_per_modality() -> None:
    for minibatch in sampler(PAIRED, n_contexts=2, n_cells=3, n_minibatches=6):
        assert minibatch.context.shape == (2,)
        assert {name: rows.shape for name, rows in minibatch.rows.items()} == {"image": (2, 3), "rna": (2, 3)}


def test_every_row_belongs_to_the_context_of_its_document() -> None:
    for minibatch in chain.from_iterable(epoch_of(sampler(n_minibatches=20), epoch) for epoch in range(3)):
        for name, rows in minibatch.rows.items():
            assert (CODES[name][rows] == minibatch.context[:, None]).all()


def test_all_documents_of_a_minibatch_hold_the_modalities_their_contexts_were_measured_in() -> None:
    found = set()
    for minibatch in sampler(n_minibatches=30):
        for context in minibatch.context.tolist():
            measured = tuple(name for name, codes in CODES.items() if context in codes)
            assert tuple(minibatch.rows) == measured
            found.add((context, measured))
    both = ("image", "rna")
    assert found == {(0, both), (1, both), (2, both), (3, ("image",)), (4, ("rna",))}


def test_cells_are_drawn_with_replacement_when_a_context_has_too_few() -> None:
    codes = {"image": np.array([0, 1, 1]), "rna": np.array([1, 0])}
    (minibatch,) = sampler(codes, n_contexts=2, n_cells=5, n_minibatches=1)
    by_context = dict(zip(minibatch.context.tolist(), minibatch.rows["image"].tolist(), strict=True))
    assert by_context[0] == [0] * 5
    assert set(by_context[1]) <= {1, 2}


def test_every_cell_of_a_context_is_drawn_equally_often() -> None:
    codes = {"image": np.zeros(5, dtype=int)}
    drawn = Counter(
        chain.from_iterable(m.rows["image"].ravel().tolist() for m in sampler(codes, 1, 10, n_minibatches=500))
    )
    # 5 standard errors of a share of 1/5 among 5,000 draws
    assert np.allclose(np.array([drawn[row] for row in range(5)]) / 5_000, 0.2, atol=5 * (0.16 / 5_000) ** 0.5)


@pytest.mark.parametrize("n_minibatches", [1, 3, 5, 7])
def test_in_an_epoch_contexts_come_equally_often_up_to_one(n_minibatches: int) -> None:
    minibatches = list(sampler(PAIRED, n_contexts=2, n_minibatches=n_minibatches))
    drawn = Counter(chain.from_iterable(m.context.tolist() for m in minibatches))
    times = [drawn[context] for context in range(5)]
    assert sum(times) == 2 * n_minibatches
    assert max(times) - min(times) <= 1


def test_every_context_comes_once_before_any_comes_again() -> None:
    """Along the steps of an epoch, too, and not only in its total."""
    for seed in range(20):
        drawn = [c for m in sampler(PAIRED, n_contexts=1, n_minibatches=15, seed=seed) for c in m.context.tolist()]
        assert [sorted(drawn[start : start + 5]) for start in (0, 5, 10)] == [list(range(5))] * 3


@pytest.mark.parametrize("n_minibatches", [1, 2])
def test_an_epoch_may_have_fewer_minibatches_than_there_are_kinds_of_contexts(n_minibatches: int) -> None:
    minibatches = list(sampler(n_contexts=2, n_cells=2, n_minibatches=n_minibatches))
    assert [m.context.shape for m in minibatches] == [(2,)] * n_minibatches


def test_a_rare_kind_of_context_is_not_left_out_of_every_epoch() -> None:
    """Three minibatches leave one context in seven less than one minibatch, but not none for ever."""
    codes = {"image": np.arange(7).repeat(2), "rna": np.arange(6).repeat(2)}  # context 6 has images only
    documents = sampler(codes, n_contexts=2, n_cells=2, n_minibatches=3)
    drawn = Counter(chain.from_iterable(m.context.tolist() for epoch in range(140) for m in epoch_of(documents, epoch)))
    assert drawn[6] > 0


def test_minibatches_are_shared_out_in_proportion_to_the_contexts_of_each_kind() -> None:
    minibatches = list(sampler(n_contexts=1, n_minibatches=50))
    kinds = Counter(tuple(m.rows) for m in minibatches)
    assert kinds == {("image", "rna"): 30, ("image",): 10, ("rna",): 10}


@pytest.mark.parametrize("n_minibatches", [6, 7, 8, 9, 13])
def test_shares_that_are_no_whole_numbers_are_rounded_up_or_down(n_minibatches: int) -> None:
    documents = sampler(n_contexts=1, n_minibatches=n_minibatches)
    for epoch in range(5):
        kinds = Counter(tuple(m.rows) for m in epoch_of(documents, epoch))
        assert sum(kinds.values()) == n_minibatches
        for kind, share in [(("image", "rna"), 3 / 5), (("image",), 1 / 5), (("rna",), 1 / 5)]:
            assert abs(kinds[kind] - share * n_minibatches) < 1


def test_an_epoch_draws_as_many_cells_as_the_larger_modality_has() -> None:
    assert len(sampler(PAIRED, n_contexts=2, n_cells=3)) == 4  # 20 image cells in minibatches of 6
    assert len(list(sampler(PAIRED, n_contexts=2, n_cells=3))) == 4
    assert len(sampler(PAIRED, n_contexts=2, n_cells=3, world_size=2)) == 2
    assert len(sampler(PAIRED, n_contexts=2, n_cells=3, n_minibatches=11)) == 11


def test_more_documents_than_contexts_repeat_contexts() -> None:
    (minibatch,) = sampler(PAIRED, n_contexts=12, n_minibatches=1)
    assert sorted(Counter(minibatch.context.tolist()).values()) == [2, 2, 2, 3, 3]


# Seeds, epochs and ranks


def test_draws_are_a_function_of_seed_epoch_and_rank() -> None:
    def documents(seed: int, epoch: int, rank: int) -> list[Any]:
        return as_lists(epoch_of(sampler(seed=seed, rank=rank, world_size=2, n_minibatches=5), epoch))

    first = documents(3, 2, 1)
    np.random.seed(5)
    assert documents(3, 2, 1) == first
    assert documents(4, 2, 1) != first
    assert documents(3, 1, 1) != first
    assert documents(3, 2, 0) != first


def test_iterating_again_without_a_new_epoch_repeats_the_documents() -> None:
    documents = sampler(n_minibatches=5)
    assert as_lists(list(documents)) == as_lists(list(documents))


def test_epochs_differ_in_contexts_and_cells() -> None:
    documents = sampler(PAIRED, n_contexts=5, n_cells=4, n_minibatches=4)
    epochs = [epoch_of(documents, epoch) for epoch in range(3)]
    for part in ("context", "image"):
        drawn = [
            [(m.context if part == "context" else m.rows["image"]).tolist() for m in minibatches]
            for minibatches in epochs
        ]
        assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_fixed_documents_are_the_same_in_every_epoch() -> None:
    documents = sampler(is_fixed=True, n_minibatches=5)
    assert as_lists(epoch_of(documents, 0)) == as_lists(epoch_of(documents, 7))


@pytest.mark.parametrize("is_fixed", [True, False])
def test_fixed_documents_hold_no_cell_twice_while_there_are_others(is_fixed: bool) -> None:
    codes = {"rna": np.array([0] * 8 + [1] * 7)}
    n_different: dict[int, set[int]] = {0: set(), 1: set()}
    for minibatch in sampler(codes, 2, 8, is_fixed=is_fixed, n_minibatches=10):
        for context, rows in zip(minibatch.context.tolist(), minibatch.rows["rna"], strict=True):
            n_different[context].add(len(np.unique(rows)))
    assert (n_different[0] == {8}) == is_fixed
    assert max(n_different[1]) <= 7  # too few for a document


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_take_equally_many_steps_and_share_out_the_contexts(world_size: int) -> None:
    ranks = [list(sampler(PAIRED, 1, 2, rank=rank, world_size=world_size)) for rank in range(world_size)]
    n_steps = -(-20 // (2 * world_size))
    assert [len(minibatches) for minibatches in ranks] == [n_steps] * world_size
    drawn = Counter(m.context.item() for minibatches in ranks for m in minibatches)
    times = [drawn[context] for context in range(5)]
    assert max(times) - min(times) <= 1


def test_ranks_draw_other_cells_of_the_same_context() -> None:
    codes = {"image": np.zeros(50, dtype=int)}
    first, second = (as_lists(list(sampler(codes, 1, 8, rank=rank, world_size=2))) for rank in range(2))
    assert len(first) == len(second)
    assert all(a != b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("codes", [PAIRED, CODES], ids=["both modalities", "one missing"])
def test_ranks_draw_together_what_one_process_draws_with_as_many_documents(codes: dict[str, Any]) -> None:
    for epoch in range(3):
        alone = epoch_of(sampler(codes, n_contexts=4), epoch)
        ranks = [epoch_of(sampler(codes, n_contexts=2, rank=rank, world_size=2), epoch) for rank in range(2)]
        together = [
            (
                [*first.context, *second.context],
                {name: [*first.rows[name].tolist(), *second.rows[name].tolist()] for name in first.rows},
            )
            for first, second in zip(*ranks, strict=True)
        ]
        assert together == as_lists(alone)


def test_skipped_minibatches_change_nothing_in_those_after_them() -> None:
    documents = sampler(n_minibatches=7)
    whole = as_lists(epoch_of(documents, 2))
    documents.skip(3)
    assert as_lists(list(documents)) == whole[3:]
    assert as_lists(list(documents)) == whole


def test_runs_are_neighbours_of_one_context_from_anywhere_in_it_and_go_round() -> None:
    rows_of = {"image": {0: np.array([2, 3, 5, 8, 9]), 1: np.array([4])}}
    starts = set()
    for context, rows in DocumentSampler(rows_of, 2, 3, n_minibatches=40, draw_runs=True):
        for code, document in zip(context.tolist(), rows["image"], strict=True):
            candidates = rows_of["image"][code]
            first = int(np.flatnonzero(candidates == document[0])[0])
            assert document.tolist() == [int(candidates[(first + i) % len(candidates)]) for i in range(3)]
            starts.add((code, first))
    assert starts == {(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0)}
