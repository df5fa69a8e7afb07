"""Pool the cells of a context into one vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class MeanPool(nn.Module):
    """Mean of the cells."""

    def forward(self, cells: Tensor) -> Tensor:
        """Shapes ``(G, S, D)`` -> ``(G, D)``."""
        return cells.mean(dim=1)


class AttentionPool(nn.Module):
    """Gated attention over the cells of a set :cite:p:`Ilse2018`.

    Each cell gets a score from itself alone; the result is the mean of the cells weighted by the softmax of the scores.
    A set of one cell gives that cell.

    Parameters
    ----------
    embed_dim
        Width D of the vectors.
    hidden_dim
        Width of the two gates.
    """

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.content = nn.Linear(embed_dim, hidden_dim)
        self.gate = nn.Linear(embed_dim, hidden_dim)
        self.score = nn.Linear(hidden_dim, 1)

    def weights(self, cells: Tensor) -> Tensor:
        """Weight of each cell in its set; shape ``(G, S, D)`` -> ``(G, S)``, adding up to 1."""
        return self.score(self.content(cells).tanh() * self.gate(cells).sigmoid()).squeeze(-1).softmax(dim=1)

    def forward(self, cells: Tensor) -> Tensor:
        """Shapes ``(G, S, D)`` -> ``(G, D)``."""
        return (self.weights(cells).unsqueeze(-1) * cells).sum(dim=1)
