"""CellCLIP: contrast a set of image cells with a transcriptome profile by InfoNCE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi.baselines.contrastive._contrastive import ContrastiveModel
from petri_scvi.baselines.contrastive._contrastive_module import CLIPModule
from petri_scvi.modalities import ImageModality

if TYPE_CHECKING:
    from petri_scvi.modalities import Modality


class CellCLIP(ContrastiveModel):
    """A pooled set of image cells against the transcriptome profile of their context, after CellCLIP :cite:p:`Lu2025`.

    As :class:`petri_scvi.baselines.CLIP`, but a context is represented by a set of S image cells that gated attention
    :cite:p:`Ilse2018` pools to one vector, and by the mean of its S encoded transcriptomes. An image cell by itself is
    embedded as a set of one, whose pooled vector is its own.

    What follows the publication: many image profiles of one perturbation are pooled with learned attention before they
    are contrasted, so that images of one perturbation are not each other's negatives. What differs: the counterpart is
    a transcriptome profile, not a text that describes the perturbation; the image encoder is PETRI's, trained from
    scratch, not a pretrained network whose channels a CrossChannelFormer joins; a set holds single cells; the loss is
    InfoNCE, not the continuously weighted contrastive loss, whose weights come from the similarity of pretrained image
    profiles. It is therefore a model in the style of CellCLIP, not CellCLIP.

    The arguments are those of :class:`petri_scvi.baselines.CLIP`.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.synthetic_screen()
    >>> petri_scvi.baselines.CellCLIP.setup_mudata(mdata)
    >>> model = petri_scvi.baselines.CellCLIP(mdata)
    >>> model.train()
    >>> mdata.obsm["X_cell_clip"] = model.get_latent_representation()
    """

    _n_contexts_per_minibatch = 16
    _n_cells_per_context = 8

    def _make_module(self, modalities: dict[str, Modality], **contrastive_kwargs: Any) -> CLIPModule:
        images = [name for name, modality in modalities.items() if isinstance(modality, ImageModality)]
        return CLIPModule(modalities, attention_modalities=images, **contrastive_kwargs)
