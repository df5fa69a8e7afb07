"""PETRI's training step as a textbook writes it: nothing shared, nothing split, nothing left out.

It reads the parameters of a :class:`petri_scvi._module.PETRIModule`, so its losses and gradients can be compared with
the module's own, and timed beside them. It calls none of the package's layers; of :mod:`torch` it uses linear layers,
LayerNorm, GELU and scaled dot product attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.functional import gelu, layer_norm, linear, log_softmax, scaled_dot_product_attention

from petri_scvi.modalities import ExpressionModality, ImageModality

if TYPE_CHECKING:
    from torch import Tensor

    from petri_scvi._module import PETRIModule
    from petri_scvi.nn import (
        ExpressionDecoder,
        ExpressionEncoder,
        ExpressionPath,
        ImageDecoder,
        ImageEncoder,
        ImagePath,
        SetTransformer,
    )

MAX_LOG_DISPERSION = 8.0


def direct_loss(
    module: PETRIModule, cells: dict[str, Tensor], n_documents: int, visible: dict[str, Tensor], mask: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Mean loss of each modality; the training loss is their sum.

    Parameters
    ----------
    module
        Whose parameters are used.
    cells
        Raw cells of each modality, document by document, shape ``(G * S, ...)``.
    n_documents
        Number of documents (G).
    visible, mask
        Of each modality, what :func:`petri_scvi.nn.random_masking` returned.
    """
    inputs, latents = {}, {}
    for name, raw in cells.items():
        modality = module.modality(name)
        if isinstance(modality, ImageModality):
            scale = modality.channel_std[:, None, None]
            inputs[name] = cut_patches(
                (raw.float() - modality.channel_mean[:, None, None]) / scale, modality.patch_size
            )
            latents[name] = encode_image(modality.encoder, inputs[name], visible[name])
        else:
            expression = cast("ExpressionModality", modality)
            inputs[name] = raw.float()
            levels = inputs[name].log1p() if expression.expression_likelihood == "nb" else inputs[name]
            latents[name] = encode_expression(expression.encoder, levels, visible[name])
    fused = fuse(module.set_transformer, latents, n_documents)
    losses = {}
    for name, fused_latents in fused.items():
        modality = module.modality(name)
        if isinstance(modality, ImageModality):
            pixels = decode_image(cast("ImageDecoder", modality.decoder), fused_latents)
            error = (pixels - inputs[name]).square().mean(dim=-1)  # (B, N)
        else:
            error = expression_error(cast("ExpressionModality", modality), fused_latents, inputs[name])  # (B, M)
        losses[name] = ((error * mask[name]).sum(dim=1) / mask[name].sum(dim=1)).mean()
    return losses


def encode_expression(encoder: ExpressionEncoder, levels: Tensor, visible: Tensor) -> Tensor:
    """Perceiver over the visible genes; shapes ``(B, M)`` and ``(B, T)`` -> ``(B, L, D)``."""
    gene_tokens = encoder.tokens
    weight = torch.cat([gene_tokens.gene_layer.weight, gene_tokens.level_weight[:, None]], dim=1)  # (D, D + 1)
    of_gene = gene_tokens.embedding[visible]  # (B, T, D)
    of_level = levels.gather(1, visible).unsqueeze(-1)  # (B, T, 1)
    hidden = gelu(linear(torch.cat([of_gene, of_level], dim=-1), weight, gene_tokens.gene_layer.bias))  # (B, T, D)
    tokens = affine(gene_tokens.output_layer, hidden)  # (B, T, D)
    contents = layer_norm(tokens, tokens.shape[-1:])
    if encoder.gene_reads == "deviations":
        mean, std = gene_tokens.level_mean[visible], gene_tokens.level_std[visible]  # (B, T)
        contents = of_gene * (of_level - mean.unsqueeze(-1)) / std.unsqueeze(-1)
    latents = encoder.latents.expand(len(levels), -1, -1)  # (B, L, D)
    for cross_block, self_block in zip(encoder.cross_blocks, encoder.self_blocks, strict=True):
        latents = cross_attend(cross_block, latents, tokens, contents)
        latents = self_attend(self_block, latents)
    latents = norm(encoder.norm, latents)
    return latents if encoder.linear_path is None else latents + gene_path(encoder, levels, visible).unsqueeze(1)


def gene_path(encoder: ExpressionEncoder, levels: Tensor, visible: Tensor) -> Tensor:
    """Mean of the embeddings of visible genes times their deviations; ``(B, M)`` and ``(B, T)`` -> ``(B, D)``."""
    tokens, path = encoder.tokens, cast("ExpressionPath", encoder.linear_path)
    deviations = ((levels - tokens.level_mean) / tokens.level_std).gather(1, visible)  # (B, T)
    products = tokens.embedding[visible] * deviations.unsqueeze(-1)  # (B, T, D)
    return linear(3 * products.mean(dim=1), path.project.weight)


def encode_image(encoder: ImageEncoder, patches: Tensor, visible: Tensor) -> Tensor:
    """Vision Transformer over the visible patches; ``(B, N, C * P * P)`` and ``(B, T)`` -> ``(B, L, D)``."""
    tokens = affine(encoder.embed, patches) + encoder.position  # (B, N, D)
    tokens = tokens.gather(1, visible.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))  # (B, T, D)
    tokens = torch.cat([encoder.latents.expand(len(patches), -1, -1), tokens], dim=1)  # (B, L + T, D)
    for block in encoder.blocks:
        tokens = self_attend(block, tokens)
    latents = norm(encoder.norm, tokens[:, : encoder.n_latent_tokens])
    if encoder.linear_path is None:
        return latents
    seen = patches.gather(1, visible.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))  # (B, T, C * P * P)
    return latents + channel_path(encoder.linear_path, seen).unsqueeze(1)


def channel_path(path: ImagePath, patches: Tensor) -> Tensor:
    """Standardised statistics of the channels, projected; shapes ``(B, T, C * P * P)`` -> ``(B, D)``."""
    by_channel = patches.unflatten(-1, (path.n_channels, -1)).permute(2, 0, 1, 3)  # (C, B, T, P * P)
    mean = [1 + scale * pixels.mean(dim=(1, 2)) for scale, pixels in zip(path.relative_std, by_channel, strict=True)]
    between = [pixels.mean(dim=2).var(dim=1, correction=0) for pixels in by_channel]
    within = [(pixels - pixels.mean(dim=2, keepdim=True)).square().mean(dim=(1, 2)) for pixels in by_channel]
    flat = by_channel.flatten(2) - by_channel.mean(dim=(2, 3)).unsqueeze(-1)  # (C, B, T * P * P)
    std = [pixels.square().mean(dim=1).clamp(min=1e-4).sqrt() for pixels in flat]
    correlations = [
        (flat[i] * flat[j]).mean(dim=1) / std[i] / std[j] for i in range(len(flat)) for j in range(i + 1, len(flat))
    ]
    statistics = [value.clamp(min=1e-2).log() for value in mean]
    statistics += [(value + 1e-4).sqrt().log() for value in between + within]
    found = torch.stack(statistics + correlations, dim=1)
    return linear((found - path.statistic_mean) / path.statistic_std, path.project.weight)


def fuse(transformer: SetTransformer, latents: dict[str, Tensor], n_documents: int) -> dict[str, Tensor]:
    """Transformer over all latent tokens of a document; shapes ``(G * S, L, D)`` as given."""
    documents = [
        (cells + transformer.modality_embedding[name]).reshape(n_documents, -1, cells.shape[-1])  # (G, S * L, D)
        for name, cells in latents.items()
    ]
    tokens = torch.cat(documents, dim=1)  # (G, all S * L, D)
    for block in transformer.blocks:
        tokens = self_attend(block, tokens)
    parts = norm(transformer.norm, tokens).split([document.shape[1] for document in documents], dim=1)
    return {name: part.reshape(latents[name].shape) for name, part in zip(latents, parts, strict=True)}


def decode_image(decoder: ImageDecoder, latents: Tensor) -> Tensor:
    """Mask tokens attend to the latents and become pixels; shapes ``(B, L, D)`` -> ``(B, N, C * P * P)``."""
    mask_tokens = (decoder.mask_token + decoder.position).expand(len(latents), -1, -1)
    tokens = torch.cat([affine(decoder.embed, latents), mask_tokens], dim=1)
    for block in decoder.blocks:
        tokens = self_attend(block, tokens)
    return affine(decoder.head, norm(decoder.norm, tokens[:, latents.shape[1] :]))


def expression_error(modality: ExpressionModality, latents: Tensor, values: Tensor) -> Tensor:
    """Negative log-likelihood or squared error of every gene; shapes ``(B, L, D)`` and ``(B, M)`` -> ``(B, M)``."""
    decoder = cast("ExpressionDecoder", modality.decoder)
    first, _, second, _ = decoder.hidden
    hidden = gelu(affine(second, gelu(affine(first, latents.mean(dim=1)))))
    prediction = affine(decoder.output, hidden)  # (B, M)
    if modality.expression_likelihood == "normal":
        return (prediction - values).square()
    library_size = values.sum(dim=1, keepdim=True).clamp(min=1)
    log_mean = log_softmax(prediction, dim=-1) + library_size.log()
    log_dispersion = modality.log_dispersion.clamp(max=MAX_LOG_DISPERSION)
    dispersion = log_dispersion.exp()
    log_total = torch.logaddexp(log_mean, log_dispersion)
    return (
        torch.lgamma(dispersion)
        + torch.lgamma(values + 1)
        - torch.lgamma(values + dispersion)
        - dispersion * (log_dispersion - log_total)
        - values * (log_mean - log_total)
    )


def self_attend(block: Any, tokens: Tensor) -> Tensor:
    """Pre-norm self-attention and MLP; shapes ``(B, T, D)`` -> ``(B, T, D)``."""
    normed = norm(block.norm_attention, tokens)
    query, key, value = affine(block.query_key_value, normed).chunk(3, dim=-1)
    tokens = tokens + affine(block.project, attend(query, key, value, block.n_heads))
    return tokens + mlp(block.mlp, norm(block.norm_mlp, tokens))


def cross_attend(block: Any, latents: Tensor, tokens: Tensor, contents: Tensor) -> Tensor:
    """Pre-norm cross-attention and MLP; shapes ``(B, L, D)``, ``(B, T, D)`` and ``(B, T, D)`` -> ``(B, L, D)``."""
    query = affine(block.query, norm(block.norm_latents, latents))
    key = affine(block.key_value, norm(block.norm_tokens, tokens)).chunk(2, dim=-1)[0]
    value = affine(block.key_value, contents).chunk(2, dim=-1)[1]
    latents = latents + affine(block.project, attend(query, key, value, block.n_heads))
    return latents + mlp(block.mlp, norm(block.norm_mlp, latents))


def attend(query: Tensor, key: Tensor, value: Tensor, n_heads: int) -> Tensor:
    """Attention of each head; shapes ``(B, Q, D)``, ``(B, T, D)`` twice -> ``(B, Q, D)``."""
    by_head = [part.unflatten(-1, (n_heads, -1)).transpose(1, 2) for part in (query, key, value)]  # (B, H, T, d)
    return scaled_dot_product_attention(*by_head).transpose(1, 2).flatten(2)


def mlp(layers: Any, tokens: Tensor) -> Tensor:
    first, _, second = layers
    return affine(second, gelu(affine(first, tokens)))


def affine(layer: Any, tokens: Tensor) -> Tensor:
    return linear(tokens, layer.weight, layer.bias)


def norm(layer: Any, tokens: Tensor) -> Tensor:
    return layer_norm(tokens, tokens.shape[-1:], layer.weight, layer.bias)


def cut_patches(images: Tensor, side: int) -> Tensor:
    """Patches row by row; shapes ``(B, C, H, W)`` -> ``(B, N, C * P * P)``."""
    patches = images.unfold(2, side, side).unfold(3, side, side)  # (B, C, H / P, W / P, P, P)
    return patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
