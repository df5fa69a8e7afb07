"""How PETRI registers images and expression of an unpaired MuData."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from scvi.data.fields import BaseAnnDataField

from petri_scvi._checks import check_expression, check_finite_images, check_images
from petri_scvi._constants import CHANNEL_NAMES_KEY
from petri_scvi.dataloaders import open_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData


class ModalityField(BaseAnnDataField):
    """A field of one modality, which may be missing from data that the model meets later.

    Parameters
    ----------
    registry_key
        Name of the field; unique, since scvi-tools lets the second of two equal names replace the first.
    modality
        Key of ``mdata.mod``.
    attr_name, attr_key
        Where in the modality the data is.
    """

    is_empty = False

    def __init__(self, registry_key: str, modality: str, attr_name: str, attr_key: str | None) -> None:
        self._registry_key = registry_key
        self.modality = modality
        self._attr_name = attr_name
        self._attr_key = attr_key

    @property
    def registry_key(self) -> str:
        return self._registry_key

    @property
    def attr_name(self) -> str:
        return self._attr_name

    @property
    def attr_key(self) -> str | None:
        return self._attr_key

    @property
    def mod_key(self) -> str:
        return self.modality

    @property
    def where(self) -> str:
        """How a user would write the place of the data."""
        place = self.attr_name if self.attr_key is None else f"{self.attr_name}[{self.attr_key!r}]"
        return f"mdata[{self.modality!r}].{place}"

    def is_present(self, mdata: MuData) -> bool:
        """Whether the data has cells of this modality."""
        return self.modality in mdata.mod and mdata.mod[self.modality].n_obs > 0

    def transfer_field(self, state_registry: dict, adata_target: MuData, **kwargs: Any) -> dict:
        """Check new data against what the model was built for; a missing modality is left out."""
        if not self.is_present(adata_target):
            return dict(state_registry)
        return self.transfer_present(state_registry, adata_target)

    def transfer_present(self, state_registry: dict, mdata: MuData) -> dict:
        """Transfer to data that has the modality."""
        raise NotImplementedError

    def view_state_registry(self, state_registry: dict) -> Table | None:
        """A two-column table of the state."""
        table = Table(title=f"{self.registry_key} State Registry")
        table.add_column("Property")
        table.add_column("Value")
        for name, value in state_registry.items():
            table.add_row(name, str(value))
        return table


class ImagesField(ModalityField):
    """Image crops in ``obsm``, with the names of the channels to use.

    Parameters
    ----------
    modality
        Key of ``mdata.mod``.
    images_key
        Slot in ``obsm``.
    image_channels
        Names or positions of the channels to use, in this order; all if ``None``.
    """

    def __init__(self, modality: str, images_key: str, image_channels: Sequence[str | int] | None) -> None:
        super().__init__("images", modality, "obsm", images_key)
        self.image_channels = image_channels

    def validate_field(self, adata: MuData) -> None:
        """Check that the slot holds crops."""
        obsm = adata.mod[self.modality].obsm
        if self.attr_key not in obsm:
            raise KeyError(
                f"images_key={self.attr_key!r} is not in mdata[{self.modality!r}].obsm; it has {list(obsm.keys())}. "
                "Name the slot that holds the crops, shape (n_cells, C, H, W)."
            )
        images = self.get_field_data(adata)
        check_images(images, self.where, adata.mod[self.modality])
        if np.dtype(images.dtype).kind == "f":
            reader = open_rows(images)
            check_finite_images(reader.chunks(np.arange(len(reader))), self.where)

    def register_field(self, adata: MuData) -> dict:
        """Record shape, dtype and channels."""
        super().register_field(adata)
        images = self.get_field_data(adata)
        if advice := open_rows(images).advice:
            warnings.warn(f"{self.where} {advice}", UserWarning, stacklevel=2)
        names = self._channel_names(adata.mod[self.modality], images.shape[1])
        chosen = names if self.image_channels is None else self._choose(self.image_channels, names)
        return {
            "n_obs": images.shape[0],
            "height": images.shape[2],
            "width": images.shape[3],
            "dtype": str(np.dtype(images.dtype)),
            "channels": chosen,
            "positions": [names.index(name) for name in chosen],
        }

    def transfer_present(self, state_registry: dict, mdata: MuData) -> dict:
        """Require the same size and dtype, and find the same channels, which may lie elsewhere."""
        self.validate_field(mdata)
        images = self.get_field_data(mdata)
        expected = (state_registry["height"], state_registry["width"])
        if images.shape[2:] != expected:
            raise ValueError(
                f"{self.where} has crops of {images.shape[2]} x {images.shape[3]} pixels; the model was built for "
                f"{expected[0]} x {expected[1]}. Cut the crops again at that size."
            )
        if str(np.dtype(images.dtype)) != state_registry["dtype"]:
            raise ValueError(
                f"{self.where} has dtype {images.dtype}; the model was built for {state_registry['dtype']}. Another "
                "dtype usually means another intensity scale: rescale, then "
                f"images.astype({state_registry['dtype']!r})."
            )
        names = self._channel_names(mdata.mod[self.modality], images.shape[1])
        positions = [names.index(self._name_of(name, names)) for name in state_registry["channels"]]
        return {**state_registry, "n_obs": images.shape[0], "positions": positions}

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Number of cells and channels."""
        return {f"n_{self.modality}_cells": state_registry["n_obs"], "n_channels": len(state_registry["channels"])}

    def _channel_names(self, adata: AnnData, n_channels: int) -> list[str]:
        """Names from ``uns["channel_names"]``, else from scPortrait's ``var["channels"]``, else "0", "1", ..."""
        if CHANNEL_NAMES_KEY in adata.uns:
            names = [str(name) for name in adata.uns[CHANNEL_NAMES_KEY]]
        elif "channels" in adata.var and len(adata.var) == n_channels:
            names = adata.var["channels"].astype(str).tolist()
        else:
            names = [str(i) for i in range(n_channels)]
        if len(names) != n_channels or len(set(names)) != n_channels:
            raise ValueError(
                f"mdata[{self.modality!r}].uns[{CHANNEL_NAMES_KEY!r}] is {names}, but {self.where} has {n_channels} "
                "channels. Give one unique name per channel."
            )
        return names

    def _choose(self, channels: Sequence[str | int], names: list[str]) -> list[str]:
        """Names of the channels asked for."""
        if isinstance(channels, str):
            raise ValueError(f"image_channels={channels!r} is one string; pass a list, such as [{channels!r}].")
        if not len(channels):
            raise ValueError(f"image_channels is empty; name at least one of {names}, or pass None for all.")
        chosen = [self._name_of(channel, names) for channel in channels]
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"image_channels names a channel twice: {chosen}. Name each once.")
        return chosen

    def _name_of(self, channel: str | int, names: list[str]) -> str:
        if isinstance(channel, int | np.integer) and not isinstance(channel, bool) and 0 <= channel < len(names):
            return names[channel]
        if channel in names:
            return str(channel)
        raise ValueError(
            f"channel {channel!r} is not in {self.where}, whose channels are {names}. Pass image_channels with some of "
            f"these names, or set mdata[{self.modality!r}].uns[{CHANNEL_NAMES_KEY!r}]."
        )


class ExpressionField(ModalityField):
    """Counts or log-normalised values in ``X`` or a layer.

    Parameters
    ----------
    modality
        Key of ``mdata.mod``.
    layer
        Layer to use; ``X`` if ``None``.
    """

    def __init__(self, modality: str, layer: str | None) -> None:
        # "X" is the name under which scvi-tools looks for expression.
        super().__init__("X", modality, "X" if layer is None else "layers", layer)

    def validate_field(self, adata: MuData) -> None:
        """Check every value, in chunks."""
        modality = adata.mod[self.modality]
        if self.attr_key is not None and self.attr_key not in modality.layers:
            raise KeyError(
                f"rna_layer={self.attr_key!r} is not in mdata[{self.modality!r}].layers; it has "
                f"{[key for key in modality.layers if key is not None]}. Name the layer with the counts, or None for X."
            )
        values = self.get_field_data(adata)
        if values is None or 0 in values.shape:
            raise ValueError(
                f"{self.where} is empty; expected expression of shape (n_cells, n_genes). "
                "Name the layer that holds it with rna_layer=..."
            )
        reader = open_rows(values)
        check_expression(reader.chunks(np.arange(len(reader))), self.where)

    def register_field(self, adata: MuData) -> dict:
        """Record the genes."""
        super().register_field(adata)
        modality = adata.mod[self.modality]
        return {"n_obs": modality.n_obs, "n_vars": modality.n_vars, "column_names": np.asarray(modality.var_names)}

    def transfer_present(self, state_registry: dict, mdata: MuData) -> dict:
        """Require the same genes in the same order."""
        expected = list(state_registry["column_names"])
        found = list(mdata.mod[self.modality].var_names)
        if found != expected:
            n_missing = len(set(expected) - set(found))
            reason = (
                f"{n_missing} genes of the model are missing, for example {sorted(set(expected) - set(found))[0]!r}"
                if n_missing
                else f"it has {len(found)} genes where the model has {len(expected)}"
                if len(found) != len(expected)
                else "the genes are in another order"
            )
            raise ValueError(
                f"the genes of mdata[{self.modality!r}] are not those of the model: {reason}. Subset and order them "
                f"before the MuData is made: rna = rna[:, model.get_var_names()[{self.modality!r}]].copy()."
            )
        return self.register_field(mdata)

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Number of cells and genes."""
        return {f"n_{self.modality}_cells": state_registry["n_obs"], "n_vars": state_registry["n_vars"]}
