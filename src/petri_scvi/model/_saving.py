"""Save and load."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import mudata
import numpy as np

from petri_scvi._compat import MODEL_NAME_KEY, SAVE_KEYS, SCVI_UUID_KEY, columns_stay_in_modalities
from petri_scvi.model.setup._registered import RegisteredData
from petri_scvi.model.training._devices import is_first_process

if TYPE_CHECKING:
    from typing import Self

    from mudata import MuData
    from numpy.typing import NDArray


class SavingMixin(RegisteredData):
    """Whole models on disk, or none."""

    mdata_uuid_: str | None = None
    """Identifier of the MuData the model was saved with; scvi-tools saves what ends with "_"."""

    def save(
        self,
        dir_path: str,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save the model; an interrupted save leaves what was there before.

        Of the processes of a distributed run the first one saves, and the call does nothing in the others.

        Parameters
        ----------
        dir_path
            Folder to save to.
        prefix
            Prepended to the names of the files.
        overwrite
            Whether the folder may exist.
        save_anndata
            Whether to save the MuData too.
        kwargs
            More arguments of :meth:`scvi.model.base.BaseModelClass.save`.

        Raises
        ------
        ValueError
            The folder exists and ``overwrite`` is ``False``, or the model has no data to save.
        """
        if save_anndata:
            self._require_data()
        if not is_first_process(getattr(self, "trainer", None)):
            return
        # The folder may still hold the MuData of a model saved there before.
        self.mdata_uuid_ = None if self.adata is None or self._is_lent else self.adata.uns[SCVI_UUID_KEY]
        folder = Path(dir_path)
        if folder.exists() and not overwrite:
            raise ValueError(f"{folder} already exists. Choose another folder, or pass overwrite=True.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as unfinished:
            super().save(unfinished, prefix=prefix, overwrite=True, save_anndata=save_anndata, **kwargs)
            folder.mkdir(exist_ok=True)
            # The weights last: a folder with a new model.pt has everything else that belongs to it.
            names = sorted(os.listdir(unfinished), key=lambda name: name.endswith(SAVE_KEYS.MODEL_FNAME))
            for name in names:
                os.replace(Path(unfinished, name), folder / name)

    @classmethod
    def load(cls, dir_path: str, adata: MuData | Literal[False] | None = None, **kwargs: Any) -> Self:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder the model was saved to.
        adata
            MuData to attach, set up as the one the model was trained on; it need not be registered. If ``None``, the
            MuData saved with the model if there is one. Without, the model embeds any MuData passed to its methods.
        kwargs
            ``prefix``, ``accelerator``, ``device`` and so on of :meth:`scvi.model.base.BaseModelClass.load`.

        Returns
        -------
        The model, ready to use.

        Raises
        ------
        ValueError
            The folder has no complete model, one of another class, or the MuData of another model; or the data does not
            fit it.
        """
        prefix = kwargs.get("prefix") or ""
        if not Path(dir_path, f"{prefix}{SAVE_KEYS.MODEL_FNAME}").exists() and not kwargs.get("backup_url"):
            raise ValueError(
                f"{dir_path} has no file {prefix}{SAVE_KEYS.MODEL_FNAME}. Pass the folder that model.save() was given."
            )
        try:
            model = super().load(dir_path, adata=False, **kwargs)
        except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{dir_path} does not hold a complete model ({error}). Save it again with model.save()."
            ) from error
        except ValueError as error:
            if "different class" not in str(error):
                raise
            saved = cls.load_registry(dir_path, prefix=prefix).get(MODEL_NAME_KEY)
            raise ValueError(
                f"{dir_path} holds a model of class {saved}, not {cls.__name__}. Load it with {saved}.load()."
            ) from error
        saved_mdata = Path(dir_path, f"{prefix}{SAVE_KEYS.MDATA_FNAME}")
        if adata is None and saved_mdata.exists():
            with columns_stay_in_modalities():
                found = mudata.read_h5mu(saved_mdata)
            if found.uns.get(SCVI_UUID_KEY) != model.mdata_uuid_:
                raise ValueError(
                    f"{saved_mdata} is not the MuData of {prefix}{SAVE_KEYS.MODEL_FNAME} beside it; another model was "
                    "saved there before. Pass the MuData, or adata=False to load the model without data."
                )
            adata = found
        if adata is not None and adata is not False:
            model._manager_of(adata)
            model._is_lent = False
        return model

    def get_var_names(self, legacy_mudata_format: bool = False) -> dict[str, NDArray[Any]] | NDArray[Any]:
        """Genes of the expression modality and channels of the imaging modality, as the model uses them.

        Parameters
        ----------
        legacy_mudata_format
            Return one array of all names, modality after modality, as scvi-tools' older file format has them;
            scvi-tools passes it when it saves a model.

        Returns
        -------
        Modality to its names, or one array.
        """
        names = {
            modality: modality_class.variable_names(state)
            for modality, (modality_class, state) in self._modality_states().items()
        }
        return np.concatenate(list(names.values())) if legacy_mudata_format else names
