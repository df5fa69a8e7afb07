from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from petri_scvi.nn._contrastive_losses import contrast_documents, group_nce, info_nce, mean_misalignment


@pytest.fixture
def queries() -> torch.Tensor:
    return normalize(torch.randn(6, 5), dim=-1)


@pytest.fixture
def keys() -> torch.Tensor:
    return normalize(torch.randn(6, 5), dim=-1)


DIFFERENT = torch.arange(6)
TWICE = torch.tensor([0, 1, 2, 0, 1, 3])


def test_info_nce_of_two_orthogonal_pairs_is_known():
    vectors = torch.eye(2)
    assert info_nce(vectors, vectors, torch.tensor([0, 1]), 3.0).item() == pytest.approx(np.log(1 + np.exp(-3)))


def test_info_nce_of_equal_vectors_is_chance():
    vectors = torch.ones(6, 5)
    assert info_nce(vectors, vectors, DIFFERENT, 10.0).item() == pytest.approx(np.log(6))


def test_info_nce_is_the_cross_entropy_of_the_similarities(queries, keys):
    expected = cross_entropy(7 * queries @ keys.T, torch.arange(6))
    torch.testing.assert_close(info_nce(queries, keys, DIFFERENT, 7.0), expected)


def test_a_context_that_comes_twice_is_not_its_own_negative(queries, keys):
    similarity = (4 * queries @ keys.T).numpy()
    expected = []
    for i in range(6):
        rivals = [k for k in range(6) if k == i or TWICE[k] != TWICE[i]]
        expected.append(np.log(np.exp(similarity[i, rivals]).sum()) - similarity[i, i])
    assert info_nce(queries, keys, TWICE, 4.0).item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert info_nce(queries, keys, TWICE, 4.0) < info_nce(queries, keys, DIFFERENT, 4.0)


def test_a_query_does_not_push_the_other_copy_of_its_context_away(queries, keys):
    only_first = queries.clone().requires_grad_()
    # Queries 0 and 3 share a context: the answer to query 0 is key 0, and key 3 must not matter to it.
    losses = [info_nce(only_first, keys + shift, TWICE, 4.0) for shift in (0, torch.eye(6)[3][:, None])]
    gradients = [torch.autograd.grad(loss, only_first)[0] for loss in losses]
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert (gradients[0][1] - gradients[1][1]).abs().max() > 1e-4


@pytest.mark.parametrize("loss", [info_nce, lambda q, k, c, s: group_nce(q, k, c, c, s)], ids=["info_nce", "group_nce"])
def test_order_and_rotation_do_not_matter(queries, keys, loss):
    order = torch.randperm(6)
    rotation = torch.linalg.qr(torch.randn(5, 5)).Q
    expected = loss(queries, keys, TWICE, 4.0)
    torch.testing.assert_close(loss(queries[order], keys[order], TWICE[order], 4.0), expected)
    torch.testing.assert_close(loss(queries @ rotation, keys @ rotation, TWICE, 4.0), expected)


def test_group_nce_is_its_formula(queries, keys):
    key_context = torch.tensor([0, 0, 1, 2, 5, 5])
    similarity = (4 * queries @ keys.T).numpy()
    expected = []
    for i in range(6):
        positives = [k for k in range(6) if key_context[k] == TWICE[i]]
        if positives:
            log_total = np.log(np.exp(similarity[i]).sum())
            expected.append(-np.mean([similarity[i, p] - log_total for p in positives]))
    assert len(expected) == 5  # context 3 has no key
    assert group_nce(queries, keys, TWICE, key_context, 4.0).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_group_nce_of_contexts_that_come_once_is_info_nce(queries, keys):
    torch.testing.assert_close(
        group_nce(queries, keys, DIFFERENT, DIFFERENT, 4.0), info_nce(queries, keys, DIFFERENT, 4.0)
    )


def test_group_nce_of_a_cell_with_its_own_modality_leaves_the_cell_out(queries):
    similarity = (4 * queries @ queries.T).numpy()
    expected = []
    for i, positive in [(0, 3), (3, 0), (1, 4), (4, 1)]:
        others = [k for k in range(6) if k != i]
        expected.append(np.log(np.exp(similarity[i, others]).sum()) - similarity[i, positive])
    found = group_nce(queries, queries, TWICE, TWICE, 4.0, is_self_excluded=True)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_group_nce_without_positives_is_zero_with_finite_gradients(queries):
    queries.requires_grad_()
    loss = group_nce(queries, queries, DIFFERENT, DIFFERENT, 4.0, is_self_excluded=True)
    loss.backward()
    assert loss.item() == 0
    assert queries.grad is not None
    assert (queries.grad == 0).all()


def test_group_nce_has_finite_gradients_where_entries_are_excluded(queries):
    queries.requires_grad_()
    group_nce(queries, queries, TWICE, TWICE, 100.0, is_self_excluded=True).backward()
    assert queries.grad is not None
    assert queries.grad.isfinite().all()
    assert queries.grad.abs().max() > 0


def test_misalignment_of_known_means():
    first = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    second = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    # Squared distances 1 + 1; both modalities spread 1 + 1 around their centre.
    assert mean_misalignment(first, second).item() == pytest.approx(2 / 2)
    assert mean_misalignment(first, -first).item() == pytest.approx(8 / 2)
    assert mean_misalignment(first, first).item() == 0


def test_misalignment_depends_on_neither_scale_nor_place():
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    expected = mean_misalignment(first, second)
    torch.testing.assert_close(mean_misalignment(1e-3 * first, 1e-3 * second), expected)
    torch.testing.assert_close(mean_misalignment(first + 5, second + 5), expected, rtol=1e-4, atol=1e-4)


def test_misalignment_of_independent_means_is_two():
    assert mean_misalignment(torch.randn(1000, 50), torch.randn(1000, 50)).item() == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_similarities_keep_full_precision_in_mixed_precision(queries, keys, dtype):
    expected = info_nce(queries, keys, DIFFERENT, 100.0)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(info_nce(queries, keys, DIFFERENT, 100.0), expected)


def test_documents_are_found_by_their_mean_latents_in_every_pair_of_modalities():
    context = torch.arange(3)
    latents = {name: torch.randn(3 * 2, 4, 5) for name in ("image", "rna", "protein")}  # 2 cells, L = 4, D = 5
    means = {name: normalize(cells.reshape(3, 8, 5).mean(dim=1), dim=-1) for name, cells in latents.items()}
    pairs = [(a, b) for a in means for b in means if a != b]
    expected = sum(info_nce(means[a], means[b], context, 1 / 0.07) for a, b in pairs) / 6
    assert contrast_documents(latents, context) == pytest.approx(expected)
    one_hot = torch.eye(3, 5).repeat_interleave(2, dim=0).unsqueeze(1)
    assert contrast_documents({"image": one_hot, "rna": one_hot}, context) < 1e-4
