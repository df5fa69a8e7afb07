"""Build the module from the registry and the arguments of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from petri_scvi._checks import check_sizes
from petri_scvi._module import PETRIModule
from petri_scvi.nn import (
    ExpressionDecoder,
    ExpressionEncoder,
    ExpressionModality,
    ImageDecoder,
    ImageEncoder,
    ImageModality,
    SetTransformer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from petri_scvi.nn import Modality


def build_modalities(
    states: dict[str, tuple[str, dict[str, Any]]],
    *,
    n_latent_tokens: int,
    embed_dim: int,
    n_heads: int,
    patch_size: int,
    image_encoder_depth: int,
    image_decoder_depth: int,
    image_decoder_dim: int,
    is_flipped: bool,
    intensity_jitter: float,
    expression_encoder_depth: int,
    expression_decoder_dim: int,
    expression_likelihood: Literal["nb", "normal"],
    gene_reads: Literal["deviations", "tokens"],
    share_gene_tokens: bool,
) -> dict[str, Modality]:
    """One entry per registered modality.

    Parameters
    ----------
    states
        Modality to the name of its field, ``"images"`` or ``"X"``, and what that field recorded. The rest are the
        arguments of :class:`petri_scvi.PETRI`.

    Returns
    -------
    Name to encoder, decoder and loss, untrained.

    Raises
    ------
    ValueError
        An argument is out of range or does not fit the data.
    """
    check_sizes(
        n_latent_tokens=n_latent_tokens,
        embed_dim=embed_dim,
        n_heads=n_heads,
        patch_size=patch_size,
        image_encoder_depth=image_encoder_depth,
        image_decoder_depth=image_decoder_depth,
        image_decoder_dim=image_decoder_dim,
        expression_encoder_depth=expression_encoder_depth,
        expression_decoder_dim=expression_decoder_dim,
    )
    for name, width in [("embed_dim", embed_dim), ("image_decoder_dim", image_decoder_dim)]:
        if width % n_heads or width % 4:
            raise ValueError(f"{name}={width} must be a multiple of n_heads={n_heads} and of 4.")
    if intensity_jitter < 0:
        raise ValueError(f"image_intensity_jitter={intensity_jitter}; a standard deviation is not negative.")
    if expression_likelihood not in ("nb", "normal"):
        raise ValueError(f"expression_likelihood={expression_likelihood!r}; expected 'nb' or 'normal'.")
    if gene_reads not in ("deviations", "tokens"):
        raise ValueError(f"gene_reads={gene_reads!r}; expected 'deviations' or 'tokens'.")

    modalities: dict[str, Modality] = {}
    for name, (field, state) in states.items():
        if field == "images":
            shape = (len(state["channels"]), state["height"], state["width"])
            _check_patch_size(shape, patch_size)
            modalities[name] = ImageModality(
                ImageEncoder(shape, patch_size, n_latent_tokens, embed_dim, image_encoder_depth, n_heads),
                ImageDecoder(shape, patch_size, embed_dim, image_decoder_dim, image_decoder_depth, n_heads),
                shape,
                is_flipped=is_flipped,
                intensity_jitter=intensity_jitter,
            )
        else:
            n_genes = state["n_vars"]
            modalities[name] = ExpressionModality(
                ExpressionEncoder(
                    n_genes,
                    n_latent_tokens,
                    embed_dim,
                    expression_encoder_depth,
                    n_heads,
                    reads=gene_reads,
                    share_tokens=share_gene_tokens,
                ),
                ExpressionDecoder(n_genes, embed_dim, expression_decoder_dim),
                n_genes,
                expression_likelihood,
            )
    return modalities


def build_module(
    states: dict[str, tuple[str, dict[str, Any]]],
    *,
    embed_dim: int,
    n_heads: int,
    mask_ratio: float,
    set_transformer_depth: int,
    **modality_kwargs: Any,
) -> PETRIModule:
    """The modalities of a PETRI, and the set transformer that joins them.

    Parameters
    ----------
    states
        As in :func:`build_modalities`, as are the other arguments; those not named here are passed on to it.
    embed_dim, n_heads, mask_ratio, set_transformer_depth
        Arguments of :class:`petri_scvi.PETRI`.

    Returns
    -------
    The module, untrained.

    Raises
    ------
    ValueError
        An argument is out of range or does not fit the data.
    """
    check_mask_ratio(mask_ratio)
    if set_transformer_depth < 0:
        raise ValueError(f"set_transformer_depth={set_transformer_depth}; it must be at least 0.")
    modalities = build_modalities(states, embed_dim=embed_dim, n_heads=n_heads, **modality_kwargs)
    check_hides_tokens(modalities, mask_ratio)
    return PETRIModule(modalities, SetTransformer(list(states), embed_dim, set_transformer_depth, n_heads), mask_ratio)


def check_mask_ratio(mask_ratio: float) -> None:
    """Require a fraction that leaves something visible."""
    if not 0 <= mask_ratio < 1:
        raise ValueError(f"mask_ratio={mask_ratio}; it must lie in [0, 1).")


def check_hides_tokens(modalities: Mapping[str, Modality], mask_ratio: float) -> None:
    """Require that the mask hides tokens of every modality: PETRI would learn nothing of one that is never rebuilt."""
    for name, modality in modalities.items():
        if int(modality.n_tokens * mask_ratio) == 0:
            raise ValueError(
                f"mask_ratio={mask_ratio} hides none of the {modality.n_tokens} tokens of a cell of {name!r}, so that "
                "it does nothing. Pass a larger mask_ratio or, for images, a smaller patch_size."
            )


def _check_patch_size(shape: tuple[int, int, int], patch_size: int) -> None:
    _, height, width = shape
    if height % patch_size or width % patch_size:
        fitting = [p for p in range(2, min(height, width)) if height % p == 0 and width % p == 0]
        raise ValueError(
            f"crops of {height} x {width} pixels cannot be cut into patches of {patch_size} x {patch_size}. "
            f"Pass a patch_size that divides both, here {fitting or 'none above 1: crop or pad the images first'}."
        )
