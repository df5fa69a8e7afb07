"""Networks of PETRI. Plain torch: tensors in, tensors out.

Encoders compress a cell to latent tokens, the set transformer joins those of a document, decoders reconstruct cells.
Open first: ``_image_networks.py``, then ``_expression_networks.py``. ``_shared_tokens.py`` is the same expression
encoder with less work.
"""

from petri_scvi.nn._blocks import CrossAttentionBlock, SelfAttentionBlock, sincos_position
from petri_scvi.nn._contrastive_losses import contrast_documents
from petri_scvi.nn._device import choose_device
from petri_scvi.nn._expression_networks import (
    ExpressionDecoder,
    ExpressionEncoder,
    ExpressionPath,
    negative_binomial_nll,
)
from petri_scvi.nn._image_networks import (
    ChannelMoments,
    ImageDecoder,
    ImageEncoder,
    ImagePath,
)
from petri_scvi.nn._masking import masked_mean, random_masking, random_numbers, take_tokens
from petri_scvi.nn._patches import choose_patch_size, patchify, unpatchify
from petri_scvi.nn._set_transformer import SetTransformer

__all__ = [
    "ChannelMoments",
    "CrossAttentionBlock",
    "ExpressionDecoder",
    "ExpressionEncoder",
    "ExpressionPath",
    "ImageDecoder",
    "ImageEncoder",
    "ImagePath",
    "SelfAttentionBlock",
    "SetTransformer",
    "choose_device",
    "choose_patch_size",
    "contrast_documents",
    "masked_mean",
    "negative_binomial_nll",
    "patchify",
    "random_masking",
    "random_numbers",
    "sincos_position",
    "take_tokens",
    "unpatchify",
]
