"""PETRI as a scvi-tools model."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from petri_scvi._module import build_module
from petri_scvi.modalities import Settings
from petri_scvi.model import QueryMixin, ReconstructionMixin, RepresentationMixin, SetupMixin, TrainingMixin
from petri_scvi.model.setup._instead import advises

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData


class PETRI(SetupMixin, TrainingMixin, RepresentationMixin, ReconstructionMixin, QueryMixin):
    """Cell embeddings from unpaired imaging and transcriptomics screens :cite:p:`PETRI2026`.

    Cells that share a context form a document. Each encoder sees a part of each cell, a set transformer exchanges
    information between the cells of a document, and decoders reconstruct what was masked. The embedding is taken before
    the set transformer, so it depends on the cell alone.

    The default differs from the paper in the encoders: ``PETRI(mdata, linear_path=False, gene_reads="tokens")`` has the
    form of the paper.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    registry
        Saved registry, to build the model without data; :meth:`load` passes it.
    n_latent_tokens
        Latent tokens per cell (L); 8 in the paper.
    embed_dim
        Width of the tokens (D), a multiple of ``n_heads`` and of 4; not specified in the paper. A larger network is
        ``PETRI(mdata, embed_dim=256)``: heads and widths of decoders follow. Its step takes several times as long, and
        where effects are weak it was not better.
    n_heads
        Attention heads of every block; not specified in the paper. By default one per 16 of ``embed_dim``, at most 8.
    patch_size
        Side of an image patch in pixels; divides height and width of the crops; not specified in the paper. By default
        the size nearest to 8 pixels that cuts a crop into 16 to 64 patches: 8 for crops of 32 to 64 pixels, 12 for 96,
        16 for 128.
    mask_ratio
        Fraction of patches or genes masked in training; 0.75 in the paper.
    image_encoder_depth, image_decoder_depth
        Self-attention blocks of the image encoder and decoder; not specified in the paper.
    image_decoder_dim
        Width of the image decoder's tokens; not specified in the paper. By default ``embed_dim``, at most 128.
    image_flip
        Whether training images are randomly flipped and, if square, rotated by multiples of 90 degrees.
    image_intensity_jitter
        Standard deviation of the log of a random intensity factor per cell and channel, in training; 0 switches it off.
    expression_encoder_depth
        Pairs of cross-attention and self-attention blocks of the expression encoder; not specified in the paper.
    expression_decoder_dim
        Hidden width of the expression decoder; not specified in the paper. By default ``4 * embed_dim``, at most 512.
    expression_likelihood
        ``"nb"``, negative binomial, for counts; ``"normal"``, squared error, for log-normalised values.
    set_transformer_depth
        Self-attention blocks of the set transformer; with 0, cells are independent. Not specified in the paper.
    gene_reads
        What the attention of the expression encoder reads from a gene: ``"deviations"``, its learned embedding times
        its standardised log expression, or ``"tokens"``, the MLP of embedding and log expression itself, as in the
        paper. The MLP determines the attention weights in either case. ``"tokens"`` takes far longer to learn known
        relations. Levels are divided by one constant for all genes, and with deviations the embeddings start as the
        principal axes of the training cells.
    linear_path
        Add to every latent token, after the last norm of the encoder, a linear function of the visible part of the
        cell: of images the log intensities, log standard deviations and correlations of channels, of expression the
        mean over genes of embedding times standardised level. The paper has none. With it, weak effects are recovered
        as well as by PCA. It reads deviations whatever ``gene_reads`` is.
    share_gene_tokens
        Compute tokens of equal gene and count once for all cells: the same result, several times faster. ``False``
        computes every token of every cell, for debugging.
    modality_settings
        Other values of the arguments above for single modalities, by name:
        ``{"protein": {"expression_encoder_depth": 1, "mask_ratio": 0.5}}``. The width and number of latent tokens, the
        heads and the set transformer are those of all modalities. Weights of losses are an argument of training:
        ``train(plan_kwargs={"loss_weights": {"protein": 0.5}})``.

    Raises
    ------
    ValueError
        An argument is out of range or does not fit the data, or ``"nb"`` is asked of values that are not counts.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.synthetic_screen()
    >>> petri_scvi.PETRI.setup_mudata(mdata)
    >>> model = petri_scvi.PETRI(mdata)
    >>> model.train()
    >>> mdata.obsm["X_petri"] = model.get_latent_representation()
    """

    _draws_groups = True

    @advises
    def __init__(
        self,
        mdata: MuData | None = None,
        registry: dict | None = None,
        *,
        n_latent_tokens: int = 8,
        embed_dim: int = 64,
        n_heads: int | None = None,
        patch_size: int | None = None,
        mask_ratio: float = 0.75,
        image_encoder_depth: int = 3,
        image_decoder_depth: int = 1,
        image_decoder_dim: int | None = None,
        image_flip: bool = False,
        image_intensity_jitter: float = 0.0,
        expression_encoder_depth: int = 2,
        expression_decoder_dim: int | None = None,
        expression_likelihood: Literal["nb", "normal"] = "nb",
        set_transformer_depth: int = 2,
        gene_reads: Literal["deviations", "tokens"] = "deviations",
        linear_path: bool = True,
        share_gene_tokens: bool = True,
        modality_settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._settings = settings = Settings.of(locals())
        super().__init__(mdata, registry)
        self.module = build_module(self._modality_states(), settings, modality_settings)
        self.n_cells_per_context_ = 8
        self._model_summary_string = (
            f"{type(self).__name__} with modalities {list(self.module.modalities)}, "
            f"n_latent_tokens: {n_latent_tokens}, embed_dim: {embed_dim}, mask_ratio: {mask_ratio}, "
            f"set_transformer_depth: {set_transformer_depth}"
        )
        self.init_params_ = self._get_init_params(locals())
        if mdata is not None:
            self._check_cells(mdata)


DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in signature(PETRI).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}
"""Defaults of the arguments that networks are built from, for models that share some of them."""
