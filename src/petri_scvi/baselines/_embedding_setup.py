"""Registration of precomputed embeddings, for systems that read those of other models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from petri_scvi._checks import check_is_mudata, check_modality, context_columns
from petri_scvi._constants import CONTEXT_KEY
from petri_scvi.baselines._embedding_modality import EmbeddingField, EmbeddingModality
from petri_scvi.model import RegistrationMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData


class EmbeddingSetupMixin(RegistrationMixin):
    """Registration of one embedding per modality, and of contexts."""

    _modality_classes = (EmbeddingModality,)
    _setup_arguments = "mdata, embedding_keys=..."

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        embedding_keys: Mapping[str, str],
        context_key: str | Sequence[str] = CONTEXT_KEY,
        is_paired: bool = False,
        **kwargs: Any,
    ) -> None:
        """Register embeddings and contexts.

        Parameters
        ----------
        mdata
            MuData with two modalities.
        embedding_keys
            Mapping from modality to the ``obsm`` slot of its embedding, shape ``(n_cells, n_dimensions)``, for example
            ``{"image": "X_mae", "rna": "X_mae"}``.
        context_key
            ``obs`` column of each modality, or several that together define a context.
        is_paired
            Whether cells of one name in both modalities are the same cell.
        kwargs
            For scvi-tools: ``source_registry``, when a saved setup is transferred.

        Raises
        ------
        KeyError
            A modality, slot or column is missing.
        ValueError
            There are not two modalities, or the data cannot be used; the error message explains the fix.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        check_is_mudata(mdata)
        if not isinstance(embedding_keys, Mapping):
            raise TypeError(
                f"embedding_keys={embedding_keys!r}; pass a dictionary of modality to obsm slot, for example "
                "embedding_keys={'image': 'X_mae', 'rna': 'X_mae'}."
            )
        if len(embedding_keys) != 2:
            raise ValueError(
                f"embedding_keys names {list(embedding_keys)}; a shared space is learned from two modalities. For "
                "example, pass embedding_keys={'image': 'X_mae', 'rna': 'X_mae'}."
            )
        if kwargs.get("source_registry") is None:
            for modality in embedding_keys:
                check_modality(mdata, modality, "embedding_keys")
        fields = [
            EmbeddingField(EmbeddingModality.field_name(modality), modality, "obsm", key)
            for modality, key in embedding_keys.items()
        ]
        cls._register(mdata, fields, context_columns(context_key), is_paired, setup_method_args, **kwargs)
