"""Late fusion of unimodal embeddings in a learned shared space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi._checks import check_sizes
from petri_scvi.baselines._embedding_modality import EmbeddingModality
from petri_scvi.baselines._embedding_setup import EmbeddingSetupMixin
from petri_scvi.baselines.autoencoders._cross_modal_module import CrossModalModule
from petri_scvi.model import EmbeddingMixin, QueryMixin, TrainingMixin

if TYPE_CHECKING:
    from mudata import MuData


class CrossModalAutoencoder(EmbeddingSetupMixin, TrainingMixin, EmbeddingMixin, QueryMixin):
    """Cross-modal autoencoder of precomputed embeddings, weakly paired by context, after :cite:t:`Yang2021`.

    Each modality has an MLP encoder into a shared space and an MLP decoder out of it. The loss is the squared error of
    each standardised embedding and, weighted, the squared distance between the means of the two modalities in each
    context of the minibatch, relative to the distance between contexts.

    Differences from the publication: inputs are embeddings from unimodal models, not images and counts; the two latent
    distributions are aligned only by the means of contexts, which are the only pairs in a weakly paired screen, not as
    whole distributions; cells are not translated from one modality to the other.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    registry
        Saved registry, to build the model without data; :meth:`load` passes it.
    embed_dim
        Width of the shared space (D); a choice of this package.
    hidden_dim, n_hidden_layers
        Width and number of the hidden layers of each encoder and decoder; a choice of this package.
    alignment_weight
        Weight of the distance between means; 0 trains two independent autoencoders. A choice of this package.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    >>> for modality in ("image", "rna"):
    ...     mdata[modality].obsm["X_mae"] = mae.get_latent_representation(modality=modality)
    >>> keys = {"image": "X_mae", "rna": "X_mae"}
    >>> petri_scvi.baselines.CrossModalAutoencoder.setup_mudata(mdata, embedding_keys=keys)
    >>> model = petri_scvi.baselines.CrossModalAutoencoder(mdata)
    >>> model.train()
    >>> mdata.obsm["X_cross_modal"] = model.get_latent_representation()
    """

    module: CrossModalModule
    _lonely_contexts = "Their cells are reconstructed, but not aligned with others."

    def __init__(
        self,
        mdata: MuData | None = None,
        registry: dict | None = None,
        *,
        embed_dim: int = 64,
        hidden_dim: int = 256,
        n_hidden_layers: int = 1,
        alignment_weight: float = 1.0,
    ) -> None:
        super().__init__(mdata, registry)
        check_sizes(embed_dim=embed_dim, hidden_dim=hidden_dim, n_hidden_layers=n_hidden_layers)
        if not alignment_weight >= 0:
            raise ValueError(f"alignment_weight={alignment_weight}; it must be at least 0.")
        widths = {name: state["n_dimensions"] for name, (_, state) in self._modality_states().items()}
        modalities = {
            name: EmbeddingModality(width, embed_dim, hidden_dim, n_hidden_layers) for name, width in widths.items()
        }
        self.module = CrossModalModule(modalities, alignment_weight)
        self.n_cells_per_context_ = 16
        self._model_summary_string = (
            f"CrossModalAutoencoder of embeddings of width {widths}, embed_dim: {embed_dim}, alignment_weight: "
            f"{alignment_weight}"
        )
        self.init_params_ = self._get_init_params(locals())

    def train(
        self,
        max_epochs: int | None = None,
        *,
        n_contexts_per_minibatch: int = 16,
        n_cells_per_context: int = 16,
        **kwargs: Any,
    ) -> None:
        """Train the model.

        Parameters
        ----------
        max_epochs
            As in :meth:`petri_scvi.PETRI.train`.
        n_contexts_per_minibatch
            Contexts per minibatch (G), at least 2: means of contexts are compared with each other.
        n_cells_per_context
            Cells per context and modality (S) whose mean is taken.
        kwargs
            All other arguments of :meth:`petri_scvi.PETRI.train`. ``history`` has ``train_loss``, that of each
            modality's reconstruction, such as ``train_loss_image``, and ``train_loss_alignment``.

        Raises
        ------
        ValueError
            Fewer than two contexts in a minibatch or in both modalities, unless ``alignment_weight`` is 0; and as in
            PETRI.
        """
        codes = self._codes(self._manager_of(None)).values()
        n_shared = len(set.intersection(*(set(of_modality.tolist()) for of_modality in codes)))
        if n_shared < 2 and self.module.alignment_weight > 0:
            raise ValueError(
                f"the modalities share {n_shared} context; means are aligned relative to each other, which needs at "
                "least 2. Name a column with more values: setup_mudata(mdata, context_key='perturbation', ...), or "
                "pass alignment_weight=0 to train two autoencoders that are not aligned."
            )
        super().train(
            max_epochs,
            n_contexts_per_minibatch=n_contexts_per_minibatch,
            n_cells_per_context=n_cells_per_context,
            **kwargs,
        )
