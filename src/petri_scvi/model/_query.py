"""Apply a model to new data under the names of scvi-tools."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mudata import MuData

from petri_scvi._checks import check_is_mudata
from petri_scvi._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY, columns_stay_in_modalities
from petri_scvi.common._warn import warn
from petri_scvi.model._fit_by_name import fit_by_name
from petri_scvi.model._saving import SavingMixin
from petri_scvi.model.setup._places import registered_modalities

if TYPE_CHECKING:
    import os

    from anndata import AnnData


class QueryMixin(SavingMixin):
    """New data for a trained model."""

    @classmethod
    def prepare_query_mudata(cls, mdata: MuData, reference_model: str | os.PathLike[str] | Self) -> MuData:
        """Fit new data to a model by name: select and order the genes, and note which are missing, to be masked.

        A masked gene is neither encoded nor scored, as in training, and is predicted like any other. Unlike in other
        models of scvi-tools, ``mdata`` stays as it is, and missing genes are not filled with zeros, which would be read
        as counts of 0. Channels of images are found by name without being prepared. Missing ones are noted, too, and
        are neither encoded nor scored; no training has seen cells without them, and the embedding is the worse for it.

        Parameters
        ----------
        mdata
            New data, with at least one modality of the model.
        reference_model
            The model, or the folder it was saved to.

        Returns
        -------
        MuData with the modalities of the model. Modalities whose genes and channels fit are shared with ``mdata``;
        others are copied, but for their crops and tables, and list missing genes or channels in
        ``uns["petri_scvi"]["masked_variables"]``.

        Raises
        ------
        ValueError
            No modality is one of the model; a modality has none of its genes or channels, or several of one name;
            channels are missing among such without names; or genes are missing of a kind that cannot mask them.

        Warns
        -----
        UserWarning
            Genes or channels are missing or dropped, or modalities are missing; one message counts them all.
        """
        check_is_mudata(mdata)
        if isinstance(reference_model, SavingMixin):
            registry = reference_model.registry_
        else:
            registry = cls.load_registry(reference_model)
        known = registered_modalities(cls._modality_classes, registry)
        found: dict[str, AnnData] = {}
        changes: list[str] = []
        for name, (modality_class, field) in known.items():
            if name in mdata.mod:
                saved = registry[FIELD_REGISTRIES_KEY][field]
                found[name], change = fit_by_name(
                    mdata.mod[name], name, modality_class, saved["data_registry"], saved[STATE_REGISTRY_KEY]
                )
                changes += change
            else:
                changes.append(f"mdata has no {name!r}, which is not needed")
        if not found:
            raise ValueError(
                f"mdata has the modalities {list(mdata.mod)}; the model knows {list(known)}. Use the same names: "
                "mdata = petri_scvi.pp.build_mudata(image=..., rna=...)."
            )
        if changes:
            warn(f"the new data was fitted to the model: {'; '.join(changes)}.")
        with columns_stay_in_modalities():
            return MuData(found)

    @classmethod
    def load_query_data(
        cls,
        mdata: MuData,
        reference_model: str | os.PathLike[str] | Self,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Self:
        """Copy a model to new data, to train it further on them.

        To embed new data, no copy is needed: ``model.get_latent_representation(mdata)``. Training adapts all weights;
        statistics of channels and genes stay those of the first data.

        Parameters
        ----------
        mdata
            New data, set up as the first ones were; contexts may be new. See :meth:`prepare_query_mudata`.
        reference_model
            The model, or the folder it was saved to.
        accelerator, device
            Where to put the copy, as in :meth:`load`.

        Returns
        -------
        The copy, with the new data, of which no cell counts as trained on or held out.

        Raises
        ------
        ValueError
            As for :meth:`load`.
        """
        with tempfile.TemporaryDirectory() as folder:
            if isinstance(reference_model, SavingMixin):
                reference_model.save(saved := Path(folder) / "model")
            else:
                saved = Path(reference_model)
            model = cls.load(saved, mdata, accelerator, device)
        model.train_indices_ = model.validation_indices_ = model.test_indices_ = None
        model.split_names_ = {}
        return model
