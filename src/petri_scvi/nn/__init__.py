"""Networks of PETRI. Plain torch: tensors in, tensors out.

An encoder, a decoder and a loss are a ``Modality``; the set transformer joins the latent tokens of modalities.
Open first: ``_modality.py``, then ``_image_encoder.py``.
"""

from petri_scvi.nn._blocks import CrossAttentionBlock, SelfAttentionBlock
from petri_scvi.nn._decoders import ExpressionDecoder, ImageDecoder
from petri_scvi.nn._device import choose_device
from petri_scvi.nn._expression_encoder import ExpressionEncoder
from petri_scvi.nn._image_encoder import ImageEncoder
from petri_scvi.nn._losses import masked_mean, negative_binomial_nll
from petri_scvi.nn._masking import random_masking, take_tokens
from petri_scvi.nn._modality import ExpressionModality, ImageModality, Modality
from petri_scvi.nn._patches import patchify, sincos_position, unpatchify
from petri_scvi.nn._set_transformer import SetTransformer

__all__ = [
    "CrossAttentionBlock",
    "ExpressionDecoder",
    "ExpressionEncoder",
    "ExpressionModality",
    "ImageDecoder",
    "ImageEncoder",
    "ImageModality",
    "Modality",
    "SelfAttentionBlock",
    "SetTransformer",
    "choose_device",
    "masked_mean",
    "negative_binomial_nll",
    "patchify",
    "random_masking",
    "sincos_position",
    "take_tokens",
    "unpatchify",
]
