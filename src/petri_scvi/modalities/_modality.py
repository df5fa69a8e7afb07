"""A modality: how its cells are registered, encoded, decoded and scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn

from petri_scvi.dataloaders import open_rows
from petri_scvi.modalities._field import MatrixField, field_of_kind
from petri_scvi.modalities._kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from torch import Generator

    from petri_scvi.dataloaders import RowReader
    from petri_scvi.modalities._field import ModalityField

    Score = Callable[[Tensor, Tensor], Tensor]
    """Maps prepared cells ``(n, ...)`` and their mask ``(n, T)`` to the loss of each cell ``(n,)``."""


class Modality(nn.Module, ABC):
    """One kind of measurement: its registration, encoder, decoder and loss.

    A new kind is a subclass whose constructor takes what its field recorded and a
    ``petri_scvi.modalities.Settings``, and which :func:`petri_scvi.modalities.register_kind` registers.
    """

    kind: ClassVar[str]
    """Name of the kind, a value of ``setup_mudata(modalities=...)``."""
    argument: ClassVar[str] = ""
    """Argument of ``setup_mudata`` that names the slot of the cells where modalities are not named with their kinds."""
    default_name: ClassVar[str] = ""
    """Key of ``mdata.mod`` there, unless the user names another one."""

    masks_missing: ClassVar[bool] = False
    """Whether NaN in raw cells is what was not measured: neither encoded nor scored, but predicted."""
    lacks_values = False
    """Whether data may have NaN that is to be looked for, because variables or channels were not measured."""

    n_tokens: int
    """Tokens per cell (T); the width of the mask."""
    latent_shape: tuple[int, int]
    """Latent tokens per cell and their width, ``(L, D)``."""

    # Registration

    @classmethod
    def field_name(cls, modality: str) -> str:
        """Name of the field in the registry of scvi-tools where modalities are not named with their kinds."""
        return field_of_kind(modality)

    @classmethod
    def kind_of_arguments(cls, arguments: Mapping[str, Any]) -> Kind:
        """What the arguments of ``setup_mudata`` say there. Default: :attr:`argument` names a layer."""
        return Kind(cls.argument, layer=arguments.get(cls.argument))

    @classmethod
    def find_cells(cls, adata: AnnData, kind: Kind) -> Kind:
        """The kind with the place where a modality has its cells. Default: as the user said, else ``X``."""
        return kind

    @classmethod
    def make_field(cls, field_name: str, modality: str, kind: Kind) -> ModalityField:
        """How the cells are registered. Default: as a matrix of cells by named variables.

        Parameters
        ----------
        field_name
            Name of the field in the registry of scvi-tools.
        modality
            Key of ``mdata.mod``.
        kind
            What the user passed, with the place of the cells.
        """
        return MatrixField(field_name, modality, *kind.place)

    @classmethod
    def open_cells(cls, cells: Any, state: Mapping[str, Any]) -> RowReader:
        """Reader of registered cells; ``state`` is what their field recorded."""
        return open_rows(cells)

    @classmethod
    def variable_names(cls, state: Mapping[str, Any]) -> NDArray[np.str_]:
        """Names of what is measured in a cell, such as genes."""
        return np.asarray(state["column_names"]).astype(str)

    def check_cells(self, cells: Any, modality: str) -> None:
        """Require raw cells that suit the loss. Default: any."""

    # From raw cells to their loss

    @abstractmethod
    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """Set the statistics of the model from training cells, given in chunks of raw cells."""

    @abstractmethod
    def prepare(self, cells: Tensor) -> Tensor:
        """Turn raw cells into the float tensor that is encoded and is the target of the loss."""

    def augment(self, cells: Tensor, generator: Generator | Sequence[Generator] | None = None) -> Tensor:
        """Randomly change raw cells in ways that preserve their meaning; used in training only. Default: no change."""
        return cells

    @abstractmethod
    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Compress prepared cells, seen at ``visible`` ``(B, T_visible)``, to latents ``(B, L, D)``."""

    @abstractmethod
    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict tokens from latents; not called in models that do not reconstruct, whose modalities have no decoder.

        Parameters
        ----------
        latents
            Latents of the cells, shape ``(B, L, D)``.
        inputs
            The prepared cells. Only what does not reveal masked tokens may be used, such as the library size.
        visible
            Positions that the encoder saw and that will not be scored, shape ``(B, T_visible)``. Their prediction may
            be left out; ``None`` asks for all.

        Returns
        -------
        A prediction of all tokens, shape ``(B, T, ...)``.
        """

    @abstractmethod
    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Score the prediction where ``mask`` ``(B, T)`` is True; shape ``(B,)``."""

    @abstractmethod
    def to_measurement(self, prediction: Tensor) -> Tensor:
        """Turn a prediction into the shape and units of raw cells."""

    def model_free_scores(self, reference: Tensor) -> dict[str, Score]:
        """Losses of model-free baselines, which predict averages. Default: none.

        Parameters
        ----------
        reference
            Prepared training cells to average over, shape ``(n_training, ...)``.
        """
        return {}
