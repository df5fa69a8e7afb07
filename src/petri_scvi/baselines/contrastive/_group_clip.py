"""GroupCLIP: all cells of a context are positives of each other across modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi.baselines.contrastive._contrastive import ContrastiveModel
from petri_scvi.baselines.contrastive._contrastive_module import GroupCLIPModule

if TYPE_CHECKING:
    from mudata import MuData

    from petri_scvi.modalities import Modality


class GroupCLIP(ContrastiveModel):
    r"""Group-contrastive learning from weakly paired modalities, after GROOVE's GroupCLIP :cite:p:`Gorla2026`.

    Each of the G * S cells of a modality in a minibatch is a query. Its keys are all cells of the other modality, and
    all those of its own context are its positives:

    .. math:: \mathcal{L} = -\operatorname{mean}_i \frac{1}{|P(i)|} \sum_{p \in P(i)} \log
        \frac{\exp (z_i \cdot z_p / \tau)}{\sum_k \exp (z_i \cdot z_k / \tau)}

    the mean of both directions, with unit vectors :math:`z` and a learned temperature :math:`\tau`. This is the "out"
    loss of supervised contrastive learning :cite:p:`Khosla2020`, applied across modalities as in CLIP
    :cite:p:`Radford2021`. With ``within_modality_weight`` the same loss with the other cells of the query's own
    modality as keys is added; a cell drawn twice is then a positive of its copy.

    How it relates to the publication: its abstract describes GroupCLIP as a group-level contrastive loss between CLIP
    and supervised contrastive learning, inside an autoencoder with on-the-fly backtranslation, and reports that
    GroupCLIP is what drives the gain. Only such a loss is implemented; there is no decoder and no backtranslation. It
    follows the abstract, which has no formula: the exact normalisation, temperature and choice of keys of the
    publication may differ.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`, with both modalities.
    registry
        Saved registry, to build the model without data; :meth:`load` passes it.
    within_modality_weight
        Weight of the loss within each modality; 0 leaves it out.
    clip_kwargs
        Arguments of :class:`petri_scvi.baselines.CLIP`.

    Raises
    ------
    ValueError
        A negative weight; and as in :class:`petri_scvi.baselines.CLIP`.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.synthetic_screen()
    >>> petri_scvi.baselines.GroupCLIP.setup_mudata(mdata)
    >>> model = petri_scvi.baselines.GroupCLIP(mdata)
    >>> model.train()
    >>> mdata.obsm["X_group_clip"] = model.get_latent_representation()
    """

    _n_contexts_per_minibatch = 16
    _n_cells_per_context = 8

    def __init__(
        self,
        mdata: MuData | None = None,
        registry: dict | None = None,
        *,
        within_modality_weight: float = 0.0,
        **clip_kwargs: Any,
    ) -> None:
        if not within_modality_weight >= 0:
            raise ValueError(f"within_modality_weight={within_modality_weight}; it must be at least 0.")
        self._within_modality_weight = within_modality_weight
        super().__init__(mdata, registry, **clip_kwargs)
        self.init_params_ = self._get_init_params(locals())

    def _make_module(self, modalities: dict[str, Modality], **contrastive_kwargs: Any) -> GroupCLIPModule:
        return GroupCLIPModule(modalities, within_modality_weight=self._within_modality_weight, **contrastive_kwargs)
