"""CLIP: contrast one cell of each modality per context by InfoNCE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi.baselines.contrastive._contrastive import ContrastiveModel
from petri_scvi.baselines.contrastive._contrastive_module import CLIPModule

if TYPE_CHECKING:
    from petri_scvi.modalities import Modality


class CLIP(ContrastiveModel):
    """CLIP over pairs of cells that share a context :cite:p:`Radford2021`.

    A minibatch holds G contexts. Of each, S cells per modality are encoded with PETRI's encoders, the mean over their
    latent tokens and over the S cells is projected linearly to a unit vector, and symmetric InfoNCE asks which of the G
    vectors of the other modality has the same context. With S = 1, the default, pairs are two cells of one
    perturbation; with more, two means. Of more than two modalities, every pair is contrasted, with equal weight.

    Differences from the publication: image and text encoders are PETRI's image and expression encoders; pairs are
    redrawn by context, since no cell was measured in both modalities; a context that occurs twice in a minibatch is not
    its own negative; minibatches are far smaller. The linear projection to unit vectors, the loss, and the learned
    temperature with its start and limit are those of CLIP.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`, with two or more modalities.
    registry
        Saved registry, to build the model without data; :meth:`load` passes it.
    mask_ratio
        Fraction of patches or genes masked in training, as augmentation; 0 masks nothing.
    projection_dim
        Width of the shared space; a choice of this package.
    temperature
        Temperature to start from; it is learned, and stays above 0.01. 0.07 in CLIP.
    encoder_kwargs
        Arguments of :class:`petri_scvi.PETRI` for the encoders: all but those of decoders and set transformer.
        ``expression_likelihood`` says how expression is read, ``"nb"`` for counts; it is never scored.

    Raises
    ------
    TypeError
        An argument of decoders or set transformer, or one that does not exist.
    ValueError
        One modality only, an argument out of range, or one that does not fit the data.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.synthetic_screen()
    >>> petri_scvi.baselines.CLIP.setup_mudata(mdata)
    >>> model = petri_scvi.baselines.CLIP(mdata)
    >>> model.train()
    >>> mdata.obsm["X_clip"] = model.get_latent_representation()
    """

    def _make_module(self, modalities: dict[str, Modality], **contrastive_kwargs: Any) -> CLIPModule:
        return CLIPModule(modalities, **contrastive_kwargs)
