r"""A faster expression encoder, which computes gene tokens once for all cells.

Token by token, the encoder builds a token of width D for every visible gene of every cell, and each cross-attention
block normalises all tokens and projects them to keys and values: about :math:`10 D^2` multiplications per token. Three
identities make most of them unnecessary. None is an approximation. :func:`encode_with_shared_tokens` is the entry.

**A token depends on its gene and level only.** Counts are small integers and most are zero, so a minibatch holds few
distinct pairs. With U of them, the tables of distinct tokens and of their contents, :math:`(U, D)` each, are computed
once, and cell b reads their rows :math:`\mathrm{place}_b`. See :func:`distinct_pairs`.

**All blocks normalise tokens alike**, so the table is normalised once for all of them.

**The L latents are few, the tokens many: move the projections to the latents.** With tokens :math:`t` and contents
:math:`u`, key and value of head h are :math:`k_h = W^k_h t + c^k_h` and :math:`v_h = W^v_h u + c^v_h`. The score of
latent query :math:`q_h` is

.. math::

    q_h^\top k_h = (W^{k\top}_h q_h)^\top t + \mathrm{const} ,

where the constant is the same for all tokens and leaves the softmax unchanged. And since attention weights
:math:`p_t` sum to one,

.. math::

    \sum_t p_t v_{h,t} = W^v_h \sum_t p_t u_t + c^v_h .

All heads and latents of a cell together are H * L queries of width D that read the same :math:`t` and :math:`u`:
:func:`read_visible`. In the first block the queries are the learned latents, the same in all cells, so there even the
scores are computed once per distinct token: :func:`read_scored`.

**Where every gene is visible**, as in embedding, most tokens are those of a zero count, which all cells share. Their
keys and values are projected once, and all cells read them with one product over the gene axis; genes that are not zero
replace their column: :func:`read_every_gene`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, layer_norm, linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from petri_scvi.nn._blocks import CrossAttentionBlock
    from petri_scvi.nn._expression_networks import ExpressionEncoder

    Read = Callable[[CrossAttentionBlock, Tensor], Tensor]
    """What the latents ``(B, L, D)`` of some cells read in a block, of the same shape."""

CHUNK_BYTES = {"cpu": 24 * 2**20}
"""Tokens of the cells that are read together. On a CPU they should stay in its cache."""
CHUNK_BYTES_ELSEWHERE = 2**30
BITS_PER_LEVEL = 32
LEVEL_BITS = 2**BITS_PER_LEVEL - 1


def encode_with_shared_tokens(encoder: ExpressionEncoder, levels: Tensor, visible: Tensor | None) -> Tensor:
    """Compute the result of :meth:`ExpressionEncoder.forward` without a token per cell and gene.

    Parameters
    ----------
    encoder
        The encoder whose parameters are used.
    levels, visible
        As for the encoder: log expression, shape ``(B, M)``, and positions of the genes to see, ``(B, M_visible)``.

    Returns
    -------
    Latents, shape ``(B, L, D)``.
    """
    if visible is None:
        return _encode_every_gene(encoder, levels)
    genes, distinct_levels, place = distinct_pairs(visible, levels.gather(1, visible))
    tables = _tables(encoder, distinct_levels, genes)
    first_block = cast("CrossAttentionBlock", encoder.cross_blocks[0])
    first_queries = _move_to_latents(first_block, _queries(first_block, encoder.latents))  # (1, H * L, D)
    scores = tables[0] @ first_queries[0].T  # (U, H * L)

    def encode_chunk(place: Tensor) -> Tensor:
        tokens, contents = (embedding(place, table) for table in tables)  # (B, T, D)

        def read(block: CrossAttentionBlock, latents: Tensor) -> Tensor:
            nonlocal tokens, contents
            if block is first_block:
                found, contents = read_scored(block, embedding(place, scores), contents)
            else:
                found, tokens, contents = read_visible(block, latents, tokens, contents)
            return found

        return _compress(encoder, len(place), read)

    return torch.cat([encode_chunk(part) for part in _chunks(encoder, place, place.shape[1])])


def _encode_every_gene(encoder: ExpressionEncoder, levels: Tensor) -> Tensor:
    """Latents of cells without a mask; shape ``(B, M)`` -> ``(B, L, D)``."""
    n_cells, n_genes = levels.shape
    is_listed = levels != 0
    # The genes of each cell that are not zero, filled up with zeros to as many in every cell.
    n_listed = int(is_listed.sum(dim=1).max())
    if 2 * n_listed > n_genes:  # too few zeros to gain from
        every_gene = torch.arange(n_genes, device=levels.device).expand(n_cells, -1)
        return encode_with_shared_tokens(encoder, levels, every_gene)
    zero_tables = _tables(encoder, levels.new_zeros(n_genes), None)  # (M, D) twice
    genes = is_listed.to(torch.uint8).topk(n_listed, dim=1).indices  # (B, K)
    pair_genes, pair_levels, place = distinct_pairs(genes, levels.gather(1, genes))
    tables = _tables(encoder, pair_levels, pair_genes)  # (U, D) twice
    zeros = {block: project_zeros(cast("CrossAttentionBlock", block), *zero_tables) for block in encoder.cross_blocks}

    def encode_chunk(genes: Tensor, place: Tensor) -> Tensor:
        tokens, contents = (embedding(place, table) for table in tables)  # (B, K, D)
        return _compress(
            encoder,
            len(genes),
            lambda block, latents: read_every_gene(block, latents, zeros[block], genes, tokens, contents),
        )

    n_rows = n_listed + n_genes // 4  # beside the tokens, the scores of all genes
    chunks = zip(_chunks(encoder, genes, n_rows), _chunks(encoder, place, n_rows), strict=True)
    return torch.cat([encode_chunk(*chunk) for chunk in chunks])


def _compress(encoder: ExpressionEncoder, n_cells: int, read: Read) -> Tensor:
    """Latents, shape ``(B, L, D)``, that alternately ``read`` and attend to each other."""
    latents = encoder.latents.expand(n_cells, -1, -1)  # (B, L, D)
    for block, self_block in zip(encoder.cross_blocks, encoder.self_blocks, strict=True):
        cross_block = cast("CrossAttentionBlock", block)
        latents = self_block(cross_block.update(latents, read(cross_block, latents)))
    return encoder.norm(latents)


def _tables(encoder: ExpressionEncoder, levels: Tensor, genes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Normalised tokens and their contents, in the precision of the products that read them."""
    tokens = layer_norm(encoder.tokens(levels, genes), encoder.latents.shape[-1:], eps=encoder.norm.eps)
    contents = encoder.tokens.deviations(levels, genes) if encoder.gene_reads == "deviations" else tokens
    return tokens.to(product_dtype(tokens)), contents.to(product_dtype(contents))


def _chunks(encoder: ExpressionEncoder, rows: Tensor, n_tokens: int) -> tuple[Tensor, ...]:
    """Cells in groups, as equal as can be, whose tokens are few enough to be read fast."""
    budget = CHUNK_BYTES.get(rows.device.type, CHUNK_BYTES_ELSEWHERE)
    n_bytes = 2 * 4 * rows.shape[0] * n_tokens * encoder.latents.shape[-1]  # tokens and contents
    return rows.tensor_split(max(1, min(len(rows), -(-n_bytes // budget))))


@torch.compiler.disable  # the number of pairs depends on the data
def distinct_pairs(genes: Tensor, levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct pairs of the gene and the level of each token, both ``(B, T)``; levels are compared in float32.

    Returns
    -------
    Gene and level of each distinct pair, shape ``(U,)``, and the pair of each token, shape ``(B, T)``.
    """
    # Gene and bits of the level in one integer: exact for any level, and sorted as fast as integers are.
    # Adding 0.0 makes -0.0 equal 0.0.
    bits = (levels.float() + 0.0).contiguous().view(torch.int32).long() & LEVEL_BITS
    pairs, place = torch.unique((genes << BITS_PER_LEVEL) | bits, return_inverse=True)
    distinct_levels = (pairs & LEVEL_BITS).to(torch.int32).view(torch.float32)
    return pairs >> BITS_PER_LEVEL, distinct_levels.to(levels.dtype), place


def product_dtype(tensor: Tensor) -> torch.dtype:
    """Precision in which matrix products of a tensor are taken."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype


def read_visible(
    block: CrossAttentionBlock, latents: Tensor, tokens: Tensor, contents: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What latents ``(B, L, D)`` read from normalised tokens of their own cell and their contents ``(B, T, D)``.

    Also returns tokens and contents, to be read by the next block.
    """
    queries = _move_to_latents(block, _queries(block, latents))  # (B, H * L, D)
    dtype = product_dtype(queries)
    read, tokens, contents = _Read.apply(queries.to(dtype), tokens.to(dtype), contents.to(dtype))
    return _values(block, read), tokens, contents


def read_scored(block: CrossAttentionBlock, scores: Tensor, contents: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`read_visible`, with tokens whose scores ``(B, T, H * L)`` are known."""
    dtype = product_dtype(scores)
    read, contents = _WeightedSum.apply(_softmax(scores, dim=1).to(dtype), contents.to(dtype))
    return _values(block, read), contents


def project_zeros(block: CrossAttentionBlock, zero_tokens: Tensor, zero_contents: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of the genes at level zero, for all cells; shapes ``(M, D)`` twice -> twice ``(H, M, d)``.

    Without their constants, as in the identities above: that of the keys drops out, that of the values is added last.
    """
    key, value = (
        linear(part, weight).unflatten(1, (block.n_heads, -1)).transpose(0, 1)
        for part, weight in zip((zero_tokens, zero_contents), block.key_value.weight.chunk(2), strict=True)
    )
    return key, value


def read_every_gene(
    block: CrossAttentionBlock,
    latents: Tensor,
    zeros: tuple[Tensor, Tensor],
    genes: Tensor,
    tokens: Tensor,
    contents: Tensor,
) -> Tensor:
    """What latents ``(B, L, D)`` read when every gene is visible; of the same shape.

    ``zeros`` is what :func:`project_zeros` returned for the block. ``genes``, ``(B, K)``, are those of each cell that
    are read one by one, all that are not zero among them; ``tokens`` and ``contents``, ``(B, K, D)``, belong to these.
    """
    n_cells, n_heads, n_latents = len(latents), block.n_heads, latents.shape[1]
    queries = _queries(block, latents)  # (B, H, L, d)
    key, value = zeros

    # One product over the gene axis for all cells, then the columns of genes that are not zero.
    scores = queries.transpose(0, 1).flatten(1, 2) @ key.transpose(1, 2)  # (H, B * L, M)
    scores = scores.unflatten(1, (n_cells, n_latents))
    columns = genes[None, :, None].expand(n_heads, -1, n_latents, -1)  # (H, B, L, K)
    listed = _move_to_latents(block, queries) @ tokens.transpose(1, 2)  # (B, H * L, K)
    listed = listed.unflatten(1, (n_heads, n_latents)).transpose(0, 1)  # (H, B, L, K)
    weights = _softmax(scores.scatter_(-1, columns, listed.to(scores.dtype)), dim=-1)

    listed_weights = weights.gather(-1, columns).transpose(0, 1).flatten(1, 2).to(tokens.dtype)  # (B, H * L, K)
    zero_weights = weights.scatter(-1, columns, 0.0).to(value.dtype)
    from_zeros = (zero_weights.flatten(1, 2) @ value).unflatten(1, (n_cells, n_latents))  # (H, B, L, d)
    return from_zeros.permute(1, 2, 0, 3).flatten(2) + _values(block, listed_weights @ contents)


def _queries(block: CrossAttentionBlock, latents: Tensor) -> Tensor:
    """Scaled queries by head; shapes ``(B, L, D)`` -> ``(B, H, L, d)``."""
    queries = block.query(block.norm_latents(latents)).unflatten(-1, (block.n_heads, -1)).transpose(1, 2)
    return queries * queries.shape[-1] ** -0.5


def _move_to_latents(block: CrossAttentionBlock, queries: Tensor) -> Tensor:
    """Apply the transposed key projection to queries; shapes ``(B, H, L, d)`` -> ``(B, H * L, D)``."""
    weight = block.key_value.weight.chunk(2)[0]  # (D, D)
    # Head by head for all cells: one product per head and cell would copy the weights for each cell.
    moved = queries.transpose(0, 1).flatten(1, 2) @ weight.unflatten(0, (block.n_heads, -1))  # (H, B * L, D)
    return moved.unflatten(1, (len(queries), -1)).transpose(0, 1).flatten(1, 2)


def _values(block: CrossAttentionBlock, read: Tensor) -> Tensor:
    """Apply the value projection to weighted sums of contents; shapes ``(B, H * L, D)`` -> ``(B, L, D)``."""
    weight, bias = block.key_value.weight.chunk(2)[1], block.key_value.bias.chunk(2)[1]
    projection = weight.unflatten(0, (block.n_heads, -1)).transpose(1, 2)  # (H, D, d)
    constant = bias.unflatten(0, (block.n_heads, 1, -1))  # (H, 1, d)
    by_head = read.unflatten(1, (block.n_heads, -1)).transpose(0, 1).flatten(1, 2)  # (H, B * L, D)
    values = by_head @ projection + constant  # (H, B * L, d)
    return values.unflatten(1, (len(read), -1)).permute(1, 2, 0, 3).flatten(2)


def _softmax(scores: Tensor, dim: int) -> Tensor:
    """Summed in float32 at least: bfloat16 has too few digits to add up thousands of genes."""
    return scores.softmax(dim=dim, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)


class _Read(torch.autograd.Function):
    """Attention to tokens and their contents, which the next block reads after this one.

    Both are handed on, so that backward meets their gradients from the blocks after and adds to them in the products
    themselves. Left to autograd, each block would allocate and fill gradients of its own: as many passes over the
    largest tensors there are.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, tokens: Tensor, contents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        weights = _softmax(torch.bmm(tokens, queries.transpose(1, 2)), dim=1)  # (B, T, Q)
        read = torch.bmm(weights.transpose(1, 2), contents)
        ctx.save_for_backward(queries, tokens, contents, weights, read)
        return read, tokens.view_as(tokens), contents.view_as(contents)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor | None, grad_tokens: Tensor | None, grad_contents: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if grad is None:
            return None, grad_tokens, grad_contents
        queries, tokens, contents, weights, read = ctx.saved_tensors
        grad_scores = torch.bmm(contents, grad.transpose(1, 2))
        grad_scores -= (grad * read).sum(dim=-1)[:, None]
        grad_scores *= weights
        grad_queries = torch.bmm(grad_scores.transpose(1, 2), tokens)
        return grad_queries, _add_product(grad_tokens, grad_scores, queries), _add_product(grad_contents, weights, grad)


class _WeightedSum(torch.autograd.Function):
    """Sums of contents under known weights; hands the contents on as :class:`_Read` does."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, contents: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weights, contents)
        return torch.bmm(weights.transpose(1, 2), contents), contents.view_as(contents)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_contents: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if grad is None:
            return None, grad_contents
        weights, contents = ctx.saved_tensors
        return torch.bmm(contents, grad.transpose(1, 2)), _add_product(grad_contents, weights, grad)


def _add_product(total: Tensor | None, weights: Tensor, rows: Tensor) -> Tensor:
    """``(B, T, Q)`` times ``(B, Q, D)``, added to ``total`` if there is one."""
    return torch.bmm(weights, rows) if total is None else total.baddbmm_(weights, rows)
