"""Base class of the contrastive baselines."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import torch

from petri_scvi._checks import check_sizes
from petri_scvi._model import DEFAULTS
from petri_scvi._module import build_modalities, check_hides_tokens
from petri_scvi.baselines.contrastive._contrastive_module import MAX_SCALE
from petri_scvi.baselines.contrastive._shared_contexts import SharedContextDataModule
from petri_scvi.modalities import EncoderSettings
from petri_scvi.model import EmbeddingMixin, QueryMixin, SetupMixin, TrainingMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from mudata import MuData
    from numpy.typing import NDArray
    from torch import Tensor

    from petri_scvi.baselines.contrastive._contrastive_module import ContrastiveModule
    from petri_scvi.modalities import Modality


class ContrastiveModel(SetupMixin, TrainingMixin, EmbeddingMixin, QueryMixin):
    """Setup, training and embedding of contrastive models with PETRI's encoders; a base, not a model.

    The arguments are those of :class:`petri_scvi.baselines.CLIP`.
    """

    module: ContrastiveModule
    _datamodule_cls = SharedContextDataModule
    _lonely_contexts = "Contrastive learning cannot compare their cells with others, so they are not used in training."
    _n_contexts_per_minibatch = 64
    _n_cells_per_context = 1

    def __init__(
        self,
        mdata: MuData | None = None,
        registry: dict | None = None,
        *,
        mask_ratio: float = 0.0,
        projection_dim: int = 128,
        temperature: float = 0.07,
        **encoder_kwargs: Any,
    ) -> None:
        self._settings = settings = EncoderSettings.of(DEFAULTS, mask_ratio=mask_ratio, **encoder_kwargs)
        super().__init__(mdata, registry)
        self._check_arguments(projection_dim, temperature)
        modalities = build_modalities(self._modality_states(), settings)
        if mask_ratio:
            check_hides_tokens(modalities, mask_ratio)
        self.module = self._make_module(
            modalities, projection_dim=projection_dim, mask_ratio=mask_ratio, temperature=temperature
        )
        self.n_cells_per_context_ = self._n_cells_per_context
        self._model_summary_string = (
            f"{type(self).__name__} with modalities {list(modalities)}, n_latent_tokens: {settings.n_latent_tokens}, "
            f"embed_dim: {settings.embed_dim}, projection_dim: {projection_dim}, mask_ratio: {mask_ratio}"
        )
        self.init_params_ = self._get_init_params(locals())
        if mdata is not None:
            self._check_cells(mdata)

    @abstractmethod
    def _make_module(self, modalities: dict[str, Modality], **contrastive_kwargs: Any) -> ContrastiveModule:
        """Build the module of the model."""

    def _check_arguments(self, projection_dim: int, temperature: float) -> None:
        name, registered = type(self).__name__, list(self._modality_states())
        if len(registered) < 2:
            raise ValueError(
                f"{name} compares two or more modalities, but only {registered} is registered. Register another: "
                f"{name}.setup_mudata(petri_scvi.pp.build_mudata(image=..., rna=...)). For one modality, use "
                "petri_scvi.baselines.MAE."
            )
        check_sizes(projection_dim=projection_dim)
        if not 1 / MAX_SCALE <= temperature < float("inf"):
            raise ValueError(
                f"temperature={temperature}; it must be finite and at least {1 / MAX_SCALE}, for example 0.07."
            )

    def train(
        self,
        max_epochs: int | None = None,
        *,
        n_contexts_per_minibatch: int | None = None,
        n_cells_per_context: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Train the model.

        Parameters
        ----------
        max_epochs
            As in :meth:`petri_scvi.PETRI.train`.
        n_contexts_per_minibatch
            Contexts that are distinguished (G); by default 64 for CLIP, 16 for the models of sets and groups. With
            several processes, each distinguishes its own.
        n_cells_per_context
            Cells per context and modality (S), drawn with replacement; by default 1 for CLIP, 8 for the others.
        kwargs
            All other arguments of :meth:`petri_scvi.PETRI.train`. ``history`` has ``train_loss`` and, of each
            modality, the mean loss of finding the others from it, such as ``train_loss_image``.

        Raises
        ------
        ValueError
            Fewer than two contexts in a minibatch or shared by the modalities; and as in PETRI.
        """
        if n_contexts_per_minibatch is None:
            n_contexts_per_minibatch = self._n_contexts_per_minibatch
        if n_cells_per_context is None:
            n_cells_per_context = self._n_cells_per_context
        super().train(
            max_epochs,
            n_contexts_per_minibatch=n_contexts_per_minibatch,
            n_cells_per_context=n_cells_per_context,
            **kwargs,
        )

    @torch.inference_mode()
    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        position: Literal["projection", "encoder"] = "projection",
    ) -> NDArray[np.float32]:
        """Embed cells, each on its own and with nothing masked.

        Parameters
        ----------
        mdata, modality, indices, batch_size
            As for :meth:`petri_scvi.PETRI.get_latent_representation`.
        position
            ``"projection"``: the unit vectors of the shared space that training compares. ``"encoder"``: the mean of
            the latent tokens before it, as in PETRI; modalities are then not comparable.

        Returns
        -------
        Embedding, shape ``(n, projection_dim)``, or ``(n, embed_dim)`` for ``"encoder"``.

        Raises
        ------
        ValueError
            As for :meth:`petri_scvi.PETRI.get_latent_representation`.
        """
        self._check_if_trained(warn=True)
        if position not in ("projection", "encoder"):
            raise ValueError(f"position={position!r}; expected 'projection' or 'encoder'.")
        manager = self._manager_of(mdata)
        width = self.module.latent_shape[1] if position == "encoder" else self.module.projection_dim

        def make_vectors(name: str, latents: Tensor) -> Tensor:
            vectors = latents.mean(dim=1)  # (B, D)
            return vectors if position == "encoder" else self.module.project(name, vectors)

        return self._embed(manager, modality, indices, (width,), self._encoded(manager, batch_size, make_vectors))
