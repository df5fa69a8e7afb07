"""Documents that are drawn by group."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi.dataloaders import DocumentDataModule, DocumentSampler, rows_by_context

if TYPE_CHECKING:
    from petri_scvi.dataloaders import DocumentRows

CODES = {"image": np.repeat(np.arange(6), 5), "rna": np.tile(np.arange(6), 4)}
"""Six contexts with both modalities."""
GROUPS = [np.array([0, 1, 2]), np.array([2, 3])]
"""Two groups that share context 2; contexts 4 and 5 are in none."""


def sampler(
    groups: Any = GROUPS, codes: dict[str, Any] = CODES, n_contexts: int = 4, n_cells: int = 6, **settings: Any
) -> DocumentSampler:
    rows_of = {name: rows_by_context(of_modality) for name, of_modality in codes.items()}
    return DocumentSampler(rows_of, n_contexts, n_cells, groups=groups, **{"n_minibatches": 12, **settings})


def as_lists(minibatches: Any) -> list[Any]:
    return [(m.context.tolist(), {name: rows.tolist() for name, rows in m.rows.items()}) for m in minibatches]


def members_of(minibatch: DocumentRows, document: int, codes: dict[str, Any] = CODES) -> list[Counter[int]]:
    """How many cells of each context a document has, per modality."""
    return [Counter(codes[name][rows[document]].tolist()) for name, rows in minibatch.rows.items()]


def documents_by_group(found: DocumentSampler, codes: dict[str, Any] = CODES) -> list[tuple[int, list[Counter[int]]]]:
    return [
        (code, members_of(minibatch, i, codes))
        for minibatch in found
        for i, code in enumerate(minibatch.context.tolist())
        if code < 0
    ]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 1.0])
def test_every_minibatch_has_its_share_of_documents_by_group(share: float) -> None:
    assert [(m.context < 0).mean() for m in sampler(group_share=share)] == [share] * 12


def test_a_small_share_is_exact_over_an_epoch() -> None:
    drawn = np.concatenate([m.context for m in sampler(group_share=0.1, n_minibatches=25)])
    assert (drawn < 0).sum() == 10


def test_a_document_of_a_group_has_the_same_members_in_every_modality_and_equally_many_cells_of_each() -> None:
    found = documents_by_group(sampler())
    assert {code for code, _ in found} == {-1, -2}
    for code, (image, rna) in found:
        assert image == rna
        assert image == dict.fromkeys(GROUPS[-1 - code].tolist(), 6 // len(GROUPS[-1 - code]))


def test_a_document_smaller_than_its_group_has_one_cell_of_some_members_and_in_time_of_all() -> None:
    groups = [np.arange(6)]
    found = documents_by_group(sampler(groups, n_cells=4))
    assert all(image == rna and sorted(image.values()) == [1, 1, 1, 1] for _, (image, rna) in found)
    seen = Counter(context for _, (image, _) in found for context in image)
    assert set(seen) == set(range(6))


def test_the_other_documents_hold_one_context_each_and_come_evenly() -> None:
    drawn: Counter[int] = Counter()
    for minibatch in sampler(group_share=0.5, n_minibatches=12):
        for i, code in enumerate(minibatch.context.tolist()):
            if code >= 0:
                assert members_of(minibatch, i) == [{code: 6}, {code: 6}]
                drawn[code] += 1
    assert drawn == dict.fromkeys(range(6), 4)


def test_every_group_comes_once_before_any_comes_again() -> None:
    codes = [code for code, _ in documents_by_group(sampler())]
    assert [sorted(codes[i : i + 2]) for i in range(0, 24, 2)] == [[-2, -1]] * 12


def test_draws_follow_from_the_seed_and_differ_between_epochs() -> None:
    first, again, other = sampler(seed=1), sampler(seed=1), sampler(seed=2)
    assert as_lists(first) == as_lists(again) != as_lists(other)
    again.set_epoch(1)
    assert as_lists(again) != as_lists(first)


def test_two_processes_draw_what_one_with_twice_as_many_documents_draws() -> None:
    together = sampler(n_contexts=8, n_minibatches=6)
    ranks = [sampler(n_contexts=4, n_minibatches=6, rank=rank, world_size=2) for rank in range(2)]
    for one, *halves in zip(together, *ranks, strict=True):
        np.testing.assert_array_equal(one.context, np.concatenate([half.context for half in halves]))
        for name in CODES:
            np.testing.assert_array_equal(one.rows[name], np.concatenate([half.rows[name] for half in halves]))


def test_a_resumed_epoch_goes_on_with_the_documents_that_it_would_have_had() -> None:
    resumed = sampler()
    resumed.skip(5)
    assert as_lists(resumed) == as_lists(sampler())[5:]


def test_runs_of_neighbours_are_drawn_for_each_member() -> None:
    for minibatch in sampler([np.array([0, 1])], {"image": np.repeat(np.arange(2), 10)}, draw_runs=True):
        for rows in minibatch.rows["image"][minibatch.context < 0]:
            for run in (rows[:3], rows[3:]):
                assert (np.diff(run) % 10 == 1).all()


def test_contexts_that_lack_a_modality_share_documents_only_with_others_that_lack_it() -> None:
    codes = {"image": np.repeat(np.arange(4), 3), "rna": np.repeat([0, 1], 3)}
    found = documents_by_group(sampler([np.arange(4)], codes), codes)
    assert {frozenset(parts[0]) for _, parts in found} == {frozenset({0, 1}), frozenset({2, 3})}
    assert {len(parts) for _, parts in found} == {1, 2}


def test_without_groups_draws_are_those_of_a_sampler_that_knows_none() -> None:
    rows_of = {name: rows_by_context(of_modality) for name, of_modality in CODES.items()}
    plain = DocumentSampler(rows_of, 4, 6, n_minibatches=12)
    assert as_lists(plain) == as_lists(sampler(()))
    # Drawn before there were groups, with seed 0.
    assert [m.context.tolist() for m in sampler((), n_minibatches=3)] == [[3, 2, 5, 4], [0, 1, 4, 5], [1, 2, 0, 3]]


def test_groups_without_two_contexts_of_one_kind_are_refused() -> None:
    codes = {"image": np.array([0, 0, 1]), "rna": np.array([0, 2, 2])}
    with pytest.raises(ValueError, match="none of 2 groups has training cells of two contexts"):
        sampler([np.array([0, 1]), np.array([1, 2])], codes)


# Data module


class Rows:
    """A reader of as many cells as there are codes."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def read(self, rows: Any) -> Any:
        return np.asarray(rows, dtype=np.float32)[:, None]


def datamodule(groups: Any = GROUPS, **settings: Any) -> DocumentDataModule:
    readers: Any = {name: Rows(len(of_modality)) for name, of_modality in CODES.items()}
    return DocumentDataModule(readers, CODES, groups=groups, **settings)


def test_half_of_the_training_documents_are_by_group_by_default_and_no_validation_documents() -> None:
    module = datamodule(train_size=0.7)
    assert module.group_share == 0.5
    training = np.concatenate([m["context"].numpy() for m in module.train_dataloader()])
    validation = np.concatenate([m["context"].numpy() for m in module.val_dataloader()])
    assert (training < 0).mean() == 0.5
    assert (validation >= 0).all()


@pytest.mark.parametrize("share", [0, -0.1, 1.1, True, "half", np.nan])
def test_a_share_out_of_range_is_refused(share: Any) -> None:
    with pytest.raises(ValueError, match="above 0 and up to 1, such as group_share=0.5"):
        datamodule(group_share=share)


def test_a_share_without_groups_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no effect without groups.*context_groups="):
        datamodule((), group_share=0.5)


def test_documents_of_one_cell_are_refused() -> None:
    with pytest.raises(ValueError, match="holds cells of two contexts at least"):
        datamodule(n_cells_per_context=1)


def test_contexts_that_never_train_are_counted() -> None:
    with pytest.warns(UserWarning, match="2 contexts are in no group: their cells do not train"):
        datamodule(group_share=1)
    datamodule([np.arange(6)], group_share=1)
