"""Losses that align two modalities. Pure functions of tensors."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, normalize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

TEMPERATURE = 0.07
"""Of :func:`contrast_documents`: that from which CLIP starts."""


def info_nce(queries: Tensor, keys: Tensor, context: Tensor, scale: Tensor | float) -> Tensor:
    """Find the key of each query's own context among those of a minibatch :cite:p:`Radford2021`.

    A context may occur twice in a minibatch. Its two keys are then not negatives of each other: each is left out where
    the other is the positive.

    Parameters
    ----------
    queries, keys
        One unit vector per context and modality, shape ``(G, D)``.
    context
        Code of each context, shape ``(G,)``.
    scale
        Inverse temperature.

    Returns
    -------
    Mean cross-entropy over the queries, a scalar. One direction; symmetric InfoNCE is the mean of both.
    """
    similarity = scaled_similarity(queries, keys, scale)  # (G, G)
    is_same = context.unsqueeze(1) == context.unsqueeze(0)
    answer = torch.arange(len(queries), device=queries.device)
    is_left_out = is_same & (answer.unsqueeze(1) != answer.unsqueeze(0))
    return cross_entropy(similarity.masked_fill(is_left_out, -torch.inf), answer)


def group_nce(
    queries: Tensor,
    keys: Tensor,
    query_context: Tensor,
    key_context: Tensor,
    scale: Tensor | float,
    *,
    is_self_excluded: bool = False,
) -> Tensor:
    r"""Find all keys of each query's context: supervised contrastive learning :cite:p:`Khosla2020`.

    With positives :math:`P(i)`, the keys of the context of query :math:`i`, and similarities :math:`s`,

    .. math:: \mathcal{L} = -\operatorname{mean}_i \frac{1}{|P(i)|} \sum_{p \in P(i)} \log
        \frac{\exp s_{ip}}{\sum_k \exp s_{ik}}

    which is the loss "out" of that paper.

    Parameters
    ----------
    queries, keys
        Unit vectors of cells, shapes ``(B, D)`` and ``(K, D)``.
    query_context, key_context
        Code of each cell's context, shapes ``(B,)`` and ``(K,)``.
    scale
        Inverse temperature.
    is_self_excluded
        Whether queries and keys are the same cells in the same order, so that key i is not a positive of query i.

    Returns
    -------
    Mean over the queries that have a positive, a scalar; 0 if none has.
    """
    similarity = scaled_similarity(queries, keys, scale)  # (B, K)
    is_positive = query_context.unsqueeze(1) == key_context.unsqueeze(0)
    if is_self_excluded:
        is_self = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
        similarity = similarity.masked_fill(is_self, -torch.inf)
        is_positive = is_positive & ~is_self
    # where, not a product: the excluded entries are infinite.
    log_share = torch.where(is_positive, similarity - similarity.logsumexp(dim=1, keepdim=True), 0.0)
    n_positives = is_positive.sum(dim=1)  # (B,)
    per_query = -log_share.sum(dim=1) / n_positives.clamp(min=1)
    return per_query.sum() / (n_positives > 0).sum().clamp(min=1)


def mean_misalignment(first: Tensor, second: Tensor) -> Tensor:
    r"""Squared distance between the two means of each context, relative to how far contexts lie apart.

    .. math:: \frac{\sum_g \lVert a_g - b_g \rVert^2}
        {\frac12 \sum_g \left(\lVert a_g - \bar a \rVert^2 + \lVert b_g - \bar b \rVert^2\right)}

    0 if the means agree, and 2 on average if they are independent draws around one centre. It does not depend on the
    scale of the space, so that it cannot be made small by shrinking it.

    Parameters
    ----------
    first, second
        Mean of each context in either modality, shape ``(G, D)``; at least two contexts.

    Returns
    -------
    A scalar.
    """
    spread = sum((means - means.mean(dim=0)).square().sum() for means in (first, second)) / 2
    return (first - second).square().sum() / (spread + torch.finfo(first.dtype).tiny)


def scaled_similarity(queries: Tensor, keys: Tensor, scale: Tensor | float) -> Tensor:
    """Inner products times ``scale``; shapes ``(B, D)`` and ``(K, D)`` -> ``(B, K)``, in full precision."""
    with torch.autocast(queries.device.type, enabled=False):  # half precision is too coarse for a scale of 100
        return scale * (queries.float() @ keys.float().T)


def contrast_documents(latents: Mapping[str, Tensor], context: Tensor) -> Tensor:
    """Find the document's mean latent in one modality from its mean in another, among the documents of a minibatch.

    Parameters
    ----------
    latents
        Latents of at least two modalities, document by document, shape ``(G * S, L, D)``.
    context
        Code of each document's context, shape ``(G,)``.

    Returns
    -------
    Mean of :func:`info_nce` over the ordered pairs of modalities, a scalar.
    """
    means = [
        normalize(of_cells.unflatten(0, (len(context), -1)).mean(dim=(1, 2)), dim=-1) for of_cells in latents.values()
    ]
    losses = [info_nce(queries, keys, context, 1 / TEMPERATURE) for queries, keys in permutations(means, 2)]
    return torch.stack(losses).mean()
