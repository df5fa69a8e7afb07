"""Apply a model to new data under the names of scvi-tools."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mudata import MuData

from petri_scvi._checks import check_is_mudata
from petri_scvi._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY, columns_stay_in_modalities
from petri_scvi.model._saving import SavingMixin

if TYPE_CHECKING:
    import os

    from anndata import AnnData


class QueryMixin(SavingMixin):
    """New data for a trained model."""

    @classmethod
    def prepare_query_mudata(cls, mdata: MuData, reference_model: str | os.PathLike[str] | Self) -> MuData:
        """Select and order the genes of new data as a model was trained on them, by name.

        Channels of images need no preparation; they are found by name. Unlike in other models of scvi-tools, ``mdata``
        stays as it is, and missing genes are not filled with zeros, which would be read as counts of 0.

        Parameters
        ----------
        mdata
            New data, with at least one modality of the model.
        reference_model
            The model, or the folder it was saved to.

        Returns
        -------
        MuData with the modalities of the model. Modalities whose genes fit are shared with ``mdata``, others copied.

        Raises
        ------
        ValueError
            No modality is one of the model, or genes are missing or have the same name.
        """
        check_is_mudata(mdata)
        if isinstance(reference_model, SavingMixin):
            registry = reference_model.registry_
        else:
            registry = cls.load_registry(reference_model)
        found: dict[str, AnnData] = {}
        for field in registry[FIELD_REGISTRIES_KEY].values():
            name, place = field["data_registry"]["mod_key"], field["data_registry"]["attr_name"]
            if name not in mdata.mod:
                continue
            adata = found.setdefault(name, mdata.mod[name])
            # Columns of a slot in obsm are not variables of the AnnData.
            genes = None if place == "obsm" else field[STATE_REGISTRY_KEY].get("column_names")
            if genes is None or list(genes) == list(adata.var_names):
                continue
            missing = sorted(set(genes) - set(adata.var_names))
            if missing:
                raise ValueError(
                    f"mdata[{name!r}] lacks {len(missing)} of the {len(genes)} genes of the model, for example "
                    f"{missing[:5]}. If they have other names, such as identifiers, rename them: "
                    f"mdata[{name!r}].var_names = ...; otherwise train a model on the genes that both screens have."
                )
            if not adata.var_names.is_unique:
                raise ValueError(
                    f"mdata[{name!r}] has several genes of one name. First call "
                    f"mdata[{name!r}].var_names_make_unique()."
                )
            found[name] = adata[:, list(genes)].copy()
        if not found:
            known = sorted({field["data_registry"]["mod_key"] for field in registry[FIELD_REGISTRIES_KEY].values()})
            raise ValueError(
                f"mdata has the modalities {list(mdata.mod)}; the model knows {known}. Use the same names: "
                "mdata = petri_scvi.pp.build_mudata(image=..., rna=...)."
            )
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
