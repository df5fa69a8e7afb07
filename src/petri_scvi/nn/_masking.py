"""Choose which tokens an encoder sees, and average over those that it does not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor


def random_numbers(
    kind: Literal["uniform", "normal"],
    shape: tuple[int, ...],
    *,
    device: torch.device | str | None = None,
    generator: Generator | Sequence[Generator] | None = None,
) -> Tensor:
    """Draw from [0, 1) or from a standard normal distribution.

    Parameters
    ----------
    kind
        Distribution.
    shape
        Shape of the result; the first dimension counts cells.
    device
        Device of the result.
    generator
        Source of randomness; torch's global one if ``None``. Of several, each draws an equal share of the cells: with
        one per document, what a document gets does not depend on the other documents of its minibatch.
    """
    draw = torch.rand if kind == "uniform" else torch.randn
    if generator is None:  # not generator=None, with which torch.compile cannot draw a symbolic number of cells
        return draw(*shape, device=device)
    if isinstance(generator, torch.Generator):
        return draw(*shape, device=device, generator=generator)
    n_cells, *rest = shape
    n_each = n_cells // len(generator)
    return torch.cat([draw(n_each, *rest, device=device, generator=source) for source in generator])


def random_masking(
    n_cells: int,
    n_tokens: int,
    mask_ratio: float,
    *,
    device: torch.device | str | None = None,
    generator: Generator | Sequence[Generator] | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose the tokens that stay visible, independently for each cell :cite:p:`He2022`.

    Every cell keeps the same number of tokens, so the visible ones form a dense tensor.

    Parameters
    ----------
    n_cells, n_tokens
        Number of cells (B) and of tokens per cell (T).
    mask_ratio
        Fraction of tokens to remove, in ``[0, 1)``; rounded down to whole tokens.
    device
        Device of the result.
    generator
        Source of randomness, or one for each equal share of the cells; torch's global one if ``None``.

    Returns
    -------
    Positions of the visible tokens, shape ``(B, T_visible)``, ascending, and the mask, shape ``(B, T)``, True where a
    token was removed.
    """
    n_visible = n_tokens - int(n_tokens * mask_ratio)
    noise = random_numbers("uniform", (n_cells, n_tokens), device=device, generator=generator)
    visible = noise.topk(n_visible, dim=1, sorted=False).indices.sort(dim=1).values  # (B, T_visible)
    mask = torch.ones(n_cells, n_tokens, dtype=torch.bool, device=device).scatter_(1, visible, False)
    return visible, mask


def take_tokens(tokens: Tensor, visible: Tensor) -> Tensor:
    """Pick tokens by position; shapes ``(B, T, D)`` and ``(B, T_visible)`` -> ``(B, T_visible, D)``."""
    return tokens.gather(1, visible.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def other_positions(positions: Tensor, n_tokens: int) -> Tensor:
    """Positions that are not among these; shape ``(B, T)`` -> ``(B, n_tokens - T)``, in no particular order."""
    is_other = torch.ones(len(positions), n_tokens, dtype=torch.uint8, device=positions.device)
    is_other.scatter_(1, positions, 0)
    # Not `nonzero`, whose size is known on the device only, so that the host would have to wait for it.
    return is_other.topk(n_tokens - positions.shape[1], dim=1, sorted=False).indices


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each cell's masked entries; shapes ``(B, T)`` and ``(B, T)`` -> ``(B,)``.

    A cell without masked entries gets 0.
    """
    return torch.where(mask, values, 0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
