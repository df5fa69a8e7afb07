"""Arguments of a model from which its networks are built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from petri_scvi._checks import check_flags, check_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


MAX_HEADS, MIN_HEAD_DIM = 8, 16
MAX_IMAGE_DECODER_DIM, MAX_EXPRESSION_DECODER_DIM = 128, 512


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Arguments of :class:`petri_scvi.PETRI` that its encoders are built from; their meaning and defaults are there.

    Raises
    ------
    TypeError
        An argument of another name.
    ValueError
        An argument is out of range.
    """

    n_latent_tokens: int
    embed_dim: int
    n_heads: int
    patch_size: int | None
    mask_ratio: float
    image_encoder_depth: int
    image_flip: bool
    image_intensity_jitter: float
    expression_encoder_depth: int
    expression_likelihood: Literal["nb", "normal"]
    gene_reads: Literal["deviations", "tokens"]
    linear_path: bool
    share_gene_tokens: bool

    @classmethod
    def of(cls, arguments: Mapping[str, Any], **changes: Any) -> Self:
        """The settings among the arguments of a model, some of them changed, with the widths that follow from others.

        ``patch_size`` stays ``None`` if it is that: it follows from the size of the crops.
        """
        found = {field.name: arguments[field.name] for field in fields(cls)}
        if unknown := set(changes) - set(found):
            raise TypeError(f"unexpected arguments {sorted(unknown)}; expected some of {sorted(found)}.")
        return cls(**_with_widths({**found, **changes}))

    def __post_init__(self) -> None:
        check_sizes(
            n_latent_tokens=self.n_latent_tokens,
            embed_dim=self.embed_dim,
            n_heads=self.n_heads,
            patch_size=1 if self.patch_size is None else self.patch_size,
            image_encoder_depth=self.image_encoder_depth,
            expression_encoder_depth=self.expression_encoder_depth,
        )
        check_flags(image_flip=self.image_flip, linear_path=self.linear_path, share_gene_tokens=self.share_gene_tokens)
        _check_width("embed_dim", self.embed_dim, self.n_heads)
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio={self.mask_ratio}; it must lie in [0, 1).")
        if self.image_intensity_jitter < 0:
            raise ValueError(f"image_intensity_jitter={self.image_intensity_jitter}; it must be at least 0.")
        if self.expression_likelihood not in ("nb", "normal"):
            raise ValueError(f"expression_likelihood={self.expression_likelihood!r}; expected 'nb' or 'normal'.")
        if self.gene_reads not in ("deviations", "tokens"):
            raise ValueError(f"gene_reads={self.gene_reads!r}; expected 'deviations' or 'tokens'.")


@dataclass(frozen=True, kw_only=True)
class Settings(EncoderSettings):
    """All arguments of :class:`petri_scvi.PETRI`: with these, modalities are built with decoders."""

    image_decoder_depth: int
    image_decoder_dim: int
    expression_decoder_dim: int
    set_transformer_depth: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(
            image_decoder_depth=self.image_decoder_depth,
            image_decoder_dim=self.image_decoder_dim,
            expression_decoder_dim=self.expression_decoder_dim,
        )
        _check_width("image_decoder_dim", self.image_decoder_dim, self.n_heads)
        if self.set_transformer_depth < 0:
            raise ValueError(f"set_transformer_depth={self.set_transformer_depth}; it must be at least 0.")


SHARED = ("n_latent_tokens", "embed_dim", "n_heads", "set_transformer_depth")
"""Arguments that all modalities share, because their latent tokens meet in the set transformer."""


def settings_by_name(
    settings: Settings, changes: Mapping[str, Mapping[str, Any]], modalities: Sequence[str]
) -> dict[str, Settings]:
    """Settings of the modalities that have some of their own.

    Raises
    ------
    ValueError
        A modality that is not registered, an argument that does not exist or that modalities share, or a value that is
        out of range.
    """
    accepted = sorted(field.name for field in fields(settings) if field.name not in SHARED)
    example = f"modality_settings={{{modalities[0]!r}: {{'mask_ratio': 0.5}}}}"
    if not isinstance(changes, Mapping) or not all(isinstance(found, Mapping) for found in changes.values()):
        raise ValueError(f"modality_settings={changes!r}; expected arguments by modality, for example {example}.")
    if unknown := sorted(set(changes) - set(modalities)):
        raise ValueError(f"modality_settings names {unknown}; the data was set up with {list(modalities)}.")
    found = {}
    for name, changed in changes.items():
        if unknown := sorted(set(changed) - set(accepted)):
            shared = f"; {unknown[0]} is the same in all modalities" if unknown[0] in SHARED else ""
            raise ValueError(
                f"modality_settings[{name!r}] has {unknown}{shared}. Expected some of {accepted}, for "
                f"example {example}."
            )
        found[name] = replace(settings, **changed)
    return found


def _with_widths(settings: dict[str, Any]) -> dict[str, Any]:
    """Fill heads and widths that are ``None`` by the width of the tokens."""
    embed_dim, n_heads = settings["embed_dim"], settings["n_heads"]
    check_sizes(embed_dim=embed_dim)
    if n_heads is None:
        if embed_dim % 4:
            raise ValueError(
                f"embed_dim={embed_dim} must be a multiple of 4, as positions of patches are; pass "
                f"{_multiples('embed_dim', embed_dim, 4)}. The number of heads follows."
            )
        most = max(1, min(MAX_HEADS, embed_dim // MIN_HEAD_DIM))
        n_heads = max(heads for heads in range(1, most + 1) if embed_dim % heads == 0)
    check_sizes(n_heads=n_heads)
    unit = math.lcm(n_heads, 4)
    follow = {
        "n_heads": n_heads,
        "image_decoder_dim": max(unit, min(embed_dim, MAX_IMAGE_DECODER_DIM) // unit * unit),
        "expression_decoder_dim": min(4 * embed_dim, MAX_EXPRESSION_DECODER_DIM),
    }
    return settings | {name: value for name, value in follow.items() if name in settings and settings[name] is None}


def _check_width(name: str, width: int, n_heads: int) -> None:
    if width % n_heads or width % 4:
        unit = math.lcm(n_heads, 4)
        raise ValueError(
            f"{name}={width} must be a multiple of 4 and of the number of attention heads, n_heads={n_heads}; pass "
            f"{_multiples(name, width, unit)}."
        )


def _multiples(name: str, width: int, unit: int) -> str:
    """The multiples next to a width, as a message names them."""
    below = width // unit * unit
    return " or ".join(f"{name}={multiple}" for multiple in (below, below + unit) if multiple)
