from __future__ import annotations

import numpy as np
import torch

from petri_scvi.baselines.contrastive._pooling import AttentionPool, MeanPool


def test_attention_averages_cells_by_the_softmax_of_their_scores():
    pool = AttentionPool(2, 1)
    with torch.no_grad():
        for layer, weight in [(pool.content, [[1.0, 0.0]]), (pool.gate, [[0.0, 1.0]]), (pool.score, [[2.0]])]:
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.zero_()
    cells = torch.tensor([[[1.0, 0.5], [-0.3, 2.0]]])
    x = cells.numpy()[0]
    scores = 2 * np.tanh(x[:, 0]) / (1 + np.exp(-x[:, 1]))
    weights = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(pool.weights(cells)[0].detach(), weights, rtol=1e-5)
    np.testing.assert_allclose(pool(cells)[0].detach(), weights @ x, rtol=1e-5)


def test_attention_gives_a_single_cell_back_and_ignores_the_order_of_cells():
    pool, cells = AttentionPool(4, 3), torch.randn(2, 5, 4)
    torch.testing.assert_close(pool(cells[:, :1]), cells[:, 0])
    torch.testing.assert_close(pool(cells[:, torch.randperm(5)]), pool(cells))
    assert (pool(cells) - MeanPool()(cells)).abs().max() > 1e-4
