from __future__ import annotations

import pytest
import torch

from petri_scvi.nn import masked_mean, random_masking, take_tokens
from petri_scvi.nn._masking import other_positions


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("n_tokens", "mask_ratio", "n_masked"), [(16, 0.0, 0), (16, 0.75, 12), (10, 0.25, 2), (3, 0.5, 1), (64, 0.99, 63)]
)
def test_every_cell_loses_the_promised_share_of_its_tokens(n_tokens: int, mask_ratio: float, n_masked: int) -> None:
    visible, mask = random_masking(5, n_tokens, mask_ratio, generator=seeded())
    assert mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [n_masked] * 5
    assert visible.shape == (5, n_tokens - n_masked)


def test_visible_positions_ascend_and_are_exactly_those_the_mask_leaves() -> None:
    visible, mask = random_masking(20, 12, 0.5, generator=seeded())
    for cell in range(20):
        assert visible[cell].tolist() == (~mask[cell]).nonzero().squeeze(1).tolist()


def test_masking_nothing_shows_every_token_in_order() -> None:
    visible, mask = random_masking(2, 7, 0.0, generator=seeded())
    assert visible.tolist() == [list(range(7))] * 2
    assert not mask.any()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_masks_of_any_number_of_cells_are_drawn_in_one_compiled_graph(backend: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda cells: random_masking(len(cells), 12, 0.5), dynamic=True, backend=backend, fullgraph=True
    )
    for n_cells in (4, 7):
        visible, mask = compiled(torch.zeros(n_cells, 2))
        assert visible.shape == (n_cells, 6)
        assert mask.sum(dim=1).tolist() == [6] * n_cells


def test_tokens_are_taken_by_position_and_never_altered() -> None:
    tokens = torch.arange(2 * 4 * 3.0).reshape(2, 4, 3)
    taken = take_tokens(tokens, torch.tensor([[0, 3], [1, 2]]))
    assert taken.tolist() == [[[0, 1, 2], [9, 10, 11]], [[15, 16, 17], [18, 19, 20]]]


def test_taking_masked_tokens_drops_exactly_the_masked_ones() -> None:
    tokens = torch.randn(6, 16, 3, generator=seeded(1))
    visible, mask = random_masking(6, 16, 0.75, generator=seeded())
    taken = take_tokens(tokens, visible)
    for cell in range(6):
        assert torch.equal(taken[cell], tokens[cell][~mask[cell]])


def test_mask_is_a_function_of_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = random_masking(8, 32, 0.75, generator=seeded(3))
    torch.manual_seed(2)
    again = random_masking(8, 32, 0.75, generator=seeded(3))
    other = random_masking(8, 32, 0.75, generator=seeded(4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_generator_leaves_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    random_masking(8, 32, 0.75, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_cells_are_masked_independently_of_each_other() -> None:
    _, mask = random_masking(50, 64, 0.75, generator=seeded())
    assert len(mask.unique(dim=0)) == 50


def test_every_token_is_equally_often_visible() -> None:
    _, mask = random_masking(20_000, 8, 0.75, generator=seeded())
    # 6 standard errors of a share of 1/4 among 20,000 cells
    assert (mask.float().mean(dim=0) - 0.75).abs().max() < 6 * (0.25 * 0.75 / 20_000) ** 0.5


def test_other_positions_are_those_that_are_left() -> None:
    visible, mask = random_masking(20, 12, 0.5, generator=seeded())
    others = other_positions(visible, 12)
    assert torch.equal(others.sort(dim=1).values, mask.nonzero()[:, 1].reshape(20, 6))
    assert other_positions(torch.arange(3)[None], 3).shape == (1, 0)


def test_with_one_generator_per_document_a_cell_keeps_its_mask_among_other_documents() -> None:
    together = random_masking(6, 12, 0.5, generator=[seeded(3), seeded(7)])
    for part, seed in enumerate((3, 7)):
        alone = random_masking(3, 12, 0.5, generator=seeded(seed))
        for tokens, expected in zip(together, alone, strict=True):
            assert torch.equal(tokens[3 * part : 3 * part + 3], expected)


def test_masked_mean_averages_the_masked_entries_of_each_cell() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 6.0, 100.0]])
    mask = torch.tensor([[False, False, True], [True, True, False]])
    assert masked_mean(values, mask).tolist() == [3.0, 5.0]


@pytest.mark.parametrize("visible", [1e30, float("nan"), float("inf")])
def test_masked_mean_ignores_what_is_visible(visible: float) -> None:
    values = torch.tensor([[visible, 2.0, 4.0]])
    assert masked_mean(values, torch.tensor([[False, True, True]])).tolist() == [3.0]


def test_masked_mean_of_nothing_is_zero() -> None:
    assert masked_mean(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)).tolist() == [0.0, 0.0]
