"""Save and load."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import mudata
import numpy as np
import torch

from petri_scvi._compat import (
    SAVE_KEYS,
    SCVI_UUID_KEY,
    columns_stay_in_modalities,
    download_if_missing,
    parse_device_args,
)
from petri_scvi.common import hidden_folder, one_writer, put_in_place, user_path
from petri_scvi.model._model_file import (
    ATTRIBUTE,
    REPLACED,
    file_name,
    incomplete,
    model_path,
    read_model,
    write_model,
)
from petri_scvi.model.setup._registered import RegisteredData

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.modalities import EncoderSettings
    from petri_scvi.model._model_file import SavedModel


class SavingMixin(RegisteredData):
    """Save and load models, completely or not at all."""

    mdata_uuid_: str | None = None
    """Identifier of the MuData the model was saved with."""
    _settings: EncoderSettings | None = None
    """Sizes of the networks, of models that have PETRI's."""
    _fixed_settings: tuple[str, ...] = ()
    """Those that are no arguments of the model."""

    def save(
        self,
        dir_path: str | os.PathLike[str],
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        save_kwargs: dict[str, Any] | None = None,
        legacy_mudata_format: bool = False,
        **anndata_write_kwargs: Any,
    ) -> None:
        """Save the model; an interrupted save leaves what was there before.

        ``model.pt`` contains tensors, plain values and a checksum, so it can be read without running code. scvi-tools
        reads it, too. In a distributed run, the process of rank 0 saves and the others wait.

        Parameters
        ----------
        dir_path
            Folder to save to.
        prefix
            Prepended to the names of the files.
        overwrite
            Whether the folder may exist.
        save_anndata
            Whether to save the MuData too, as ``mdata.h5mu``.
        save_kwargs
            Arguments of :func:`torch.save`.
        legacy_mudata_format
            Whether the names of genes and channels are one list, as in older files of scvi-tools, instead of one per
            modality.
        anndata_write_kwargs
            Arguments of :meth:`mudata.MuData.write`.

        Raises
        ------
        ValueError
            The folder exists and ``overwrite`` is ``False``, the model has no data to save, a weight is not finite, or
            ``prefix`` cannot be part of a file name.
        """
        if save_anndata:
            self._require_data()
        elif anndata_write_kwargs:
            raise TypeError(f"save() has no arguments {sorted(anndata_write_kwargs)} unless save_anndata=True.")
        folder, name = user_path(dir_path), file_name(prefix, SAVE_KEYS.MODEL_FNAME)
        # The folder may still hold the MuData of a model saved there before.
        self.mdata_uuid_ = None if self.adata is None else self.adata.uns[SCVI_UUID_KEY]
        with one_writer(folder / name, is_first=True) as is_writer:
            if not is_writer:
                return
            if folder.is_file():
                raise ValueError(f"{folder} is a file. Pass a folder, which save() creates if it does not exist.")
            if folder.exists() and not overwrite:
                raise ValueError(f"{folder} already exists. Choose another folder, or pass overwrite=True.")
            folder.parent.mkdir(parents=True, exist_ok=True)
            with hidden_folder(folder) as unfinished:
                written = unfinished / folder.name
                written.mkdir()
                if save_anndata:
                    self.adata.write(written / file_name(prefix, SAVE_KEYS.MDATA_FNAME), **anndata_write_kwargs)
                var_names = self.get_var_names(legacy_mudata_format=legacy_mudata_format)
                attributes = {key: value for key, value in vars(self).items() if ATTRIBUTE.fullmatch(key)}
                write_model(written / name, attributes, self.module.state_dict(), var_names, **(save_kwargs or {}))
                _move(written, folder)

    @classmethod
    def load(
        cls,
        dir_path: str | os.PathLike[str],
        adata: MuData | Literal[False] | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        backup_url: str | None = None,
        *,
        allowed_classes_names_list: Sequence[str] | None = None,
        trust_file: bool = False,
    ) -> Self:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder the model was saved to.
        adata
            MuData to attach, set up as the one the model was trained on; it need not be registered. If ``None``, the
            MuData saved with the model if there is one. Without, the model embeds any MuData passed to its methods.
        accelerator, device
            Where to put the model, as in :meth:`scvi.model.base.BaseModelClass.load`.
        prefix
            What :meth:`save` prepended to the names of the files.
        backup_url
            Where to download ``model.pt`` from if the folder does not have it.
        allowed_classes_names_list
            Names of other classes whose models may be loaded as one of this class.
        trust_file
            Whether to read a ``model.pt`` that was written with pickle, as scvi-tools does. Reading it runs any code
            that it names, so pass ``True`` only for files that you wrote, or whose author you trust.

        Returns
        -------
        The model, ready to use.

        Raises
        ------
        ValueError
            The folder has no complete model, a pickled one that is not trusted, one of another class, or the MuData of
            another model; or the data does not fit it.
        """
        _, _, found_device = parse_device_args(
            accelerator=accelerator, devices=device, return_device="torch", validate_single_device=True
        )
        folder = user_path(dir_path)
        if backup_url is not None:
            download_if_missing(backup_url, str(folder), file_name(prefix, SAVE_KEYS.MODEL_FNAME))
        path = model_path(folder, prefix)
        saved = read_model(path, trust_file=trust_file)
        if saved.class_name not in (cls.__name__, *(allowed_classes_names_list or ())):
            raise ValueError(
                f"{path} holds a model of class {saved.class_name}, not {cls.__name__}. Load it with "
                f"{saved.class_name}.load()."
            )
        model = cls._from_saved(saved, path)
        model.to_device(found_device)
        model.module.eval()
        if adata is None:
            adata = _read_mdata(folder / file_name(prefix, SAVE_KEYS.MDATA_FNAME), model.mdata_uuid_, path)
        if adata is not None and adata is not False:
            model._attach(adata)
        return model

    @classmethod
    def _from_saved(cls, saved: SavedModel, path: Path) -> Self:
        """Make a model without data."""
        shapes = {name: tuple(tensor.shape) for name, tensor in saved.weights.items()}
        try:
            # First without allocating weights, since a file may describe a model of any size.
            with torch.device("meta"):
                described = cls(None, saved.registry, **saved.arguments).module.state_dict()
            other = [name for name, tensor in described.items() if shapes.get(name) != tuple(tensor.shape)]
            other += [name for name in shapes if name not in described]
            if other:
                raise ValueError(f"{len(other)} weights have another name or shape, such as {other[0]!r}")
            model = cls(None, saved.registry, **saved.arguments)
        except Exception as error:
            reason = f"describes a {cls.__name__} that cannot be built ({type(error).__name__}: {error})"
            raise incomplete(path, reason) from error
        model.module.load_state_dict(saved.weights)
        for name, value in saved.attributes.items():
            setattr(model, name, value)
        return model

    def _get_init_params(self, found: dict[str, Any]) -> dict[str, Any]:
        """Arguments that the model was built with, except those that loading sets.

        Sizes are those that the networks have, also where a default or another size determined them, so that a saved
        model does not depend on these rules.
        """
        arguments = super()._get_init_params(found)
        named = {k: v for k, v in arguments["non_kwargs"].items() if k not in REPLACED}
        sizes = {} if self._settings is None else vars(self._settings)
        others = {k: v for k, v in sizes.items() if k not in named and k not in self._fixed_settings}
        return {
            "non_kwargs": {k: sizes.get(k, v) for k, v in named.items()},
            "kwargs": {name: {**part, **others} for name, part in arguments["kwargs"].items()},
        }

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


def _move(written: Path, folder: Path) -> None:
    """Put a new folder in place, or the files of one into a folder that exists."""
    if not folder.exists():
        put_in_place(written, folder)
        return
    # The weights last: a folder with a new model.pt has everything else that belongs to it.
    for name in sorted(os.listdir(written), key=lambda name: name.endswith(SAVE_KEYS.MODEL_FNAME)):
        put_in_place(written / name, folder / name)


def _read_mdata(path: Path, uuid: str | None, model_path: Path) -> MuData | None:
    """The MuData that was saved with a model, if there is one."""
    if not path.exists():
        return None
    try:
        with columns_stay_in_modalities():
            found = mudata.read_h5mu(path)
    except Exception as error:
        raise ValueError(
            f"{path} does not hold a complete MuData ({type(error).__name__}: {error}). Pass the MuData, or "
            "adata=False to load the model without data."
        ) from error
    if found.uns.get(SCVI_UUID_KEY) != uuid:
        raise ValueError(
            f"{path} is not the MuData of {model_path.name} beside it; another model was saved there before. Pass the "
            "MuData, or adata=False to load the model without data."
        )
    return found
