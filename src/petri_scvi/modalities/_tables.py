"""Tables of numbers: intensities, log-normalised expression, and features of images."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from petri_scvi._checks import check_float32
from petri_scvi.common._names import N_LISTED, first_names
from petri_scvi.common._warn import warn
from petri_scvi.dataloaders import open_rows
from petri_scvi.modalities._axes import Reservoir
from petri_scvi.modalities._field import MatrixField, masked_variables
from petri_scvi.modalities._matrix import MatrixModality
from petri_scvi.nn import masked_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.dataloaders import RowReader
    from petri_scvi.modalities._kinds import Kind
    from petri_scvi.modalities._modality import Score
    from petri_scvi.modalities._settings import EncoderSettings
    from petri_scvi.nn import ExpressionDecoder

MAX_DEVIATION = 10.0
"""Standard deviations from the mean beyond which values of a feature are clipped, as is common for expression."""
QUANTILES = ((0.25, 0.75), (0.01, 0.99))
"""Pairs of quantiles whose distance gives the standard deviation without outliers; the larger one counts."""


class TableField(MatrixField):
    """Numbers of any scale, NaN where a value is missing; columns that do not vary are left out."""

    variables = "columns"

    def validate_field(self, adata: MuData) -> None:
        """Check every value, in chunks."""
        super().validate_field(adata)
        reader = open_rows(self.get_field_data(adata))
        n_infinite = n_empty = 0
        for chunk in reader.chunks(np.arange(len(reader))):
            check_float32(chunk, self.where)
            n_infinite += int(np.isinf(chunk).sum())
            n_empty += int(np.isnan(chunk).all(axis=1).sum())
        if n_infinite:
            raise ValueError(
                f"{self.where} has {n_infinite} infinite values. Replace them by numpy.nan, which stands for missing "
                "values, or leave their columns out."
            )
        if n_empty:
            raise ValueError(
                f"{self.where} has {n_empty} of {len(reader)} cells without any value. Drop these cells, or put them "
                "in another MuData."
            )

    def register_field(self, adata: MuData) -> dict:
        """Record the names and positions of the columns that vary."""
        state = super().register_field(adata)
        varies = _varies(open_rows(self.get_field_data(adata)))
        names = state["column_names"]
        if not varies.any():
            raise ValueError(f"no column of {self.where} varies between cells; there is nothing to learn from it.")
        if not varies.all():
            warn(f"{_some(names[~varies])} of {self.where} do not vary between cells and are left out")
        return {
            **state,
            "n_vars": int(varies.sum()),
            "column_names": names[varies],
            "positions": np.flatnonzero(varies).tolist(),
        }

    def transfer_present(self, state_registry: dict, mdata: MuData) -> dict:
        """Find the columns of the model by name; those that are missing count as missing values."""
        state = self._transfer_by_name(state_registry, mdata)
        found, wanted, positions = self.names(mdata), state["column_names"], np.asarray(state["positions"])
        if (positions < 0).all():
            raise ValueError(
                f"{self.where} has none of the {len(wanted)} columns of the model, such as {wanted[0]!r}; it has "
                f"{list(found[:N_LISTED])}. Name its columns as model.get_var_names()[{self.modality!r}] does."
            )
        missing = np.asarray(wanted)[positions < 0]
        if set(missing) - masked_variables(mdata.mod[self.modality]):
            warn(f"{_some(missing)} of the model are missing from {self.where}: they count as missing values")
        return state


class ContinuousModality(MatrixModality):
    """Log-normalised expression or intensities: Perceiver encoder, MLP decoder, squared error.

    Columns are centred, and all are divided by one constant: columns that vary more count more. Missing values, NaN,
    are neither read nor scored.

    Parameters
    ----------
    state, settings
        As for :class:`MatrixModality`.
    """

    kind = "continuous"
    expression_likelihood = "normal"
    masks_missing = True
    scales_each_column: ClassVar[bool] = False
    """Whether each column is divided by its own standard deviation."""

    def __init__(self, state: Mapping[str, Any], settings: EncoderSettings) -> None:
        super().__init__(state, settings)
        self.column_mean: Tensor
        self.column_scale: Tensor
        self.register_buffer("column_mean", torch.zeros(self.n_tokens))
        self.register_buffer("column_scale", torch.ones(self.n_tokens))

    @classmethod
    def make_field(cls, field_name: str, modality: str, kind: Kind) -> TableField:
        return TableField(field_name, modality, *kind.place)

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """Set mean and scale of the columns from training cells, and start embeddings at their principal axes."""
        moments, reservoir = ColumnMoments(self.n_tokens), Reservoir(self.n_tokens)
        for cells in chunks:
            values = cells.to(torch.float64)
            moments.update(values)
            reservoir.update(values)
        std = moments.std
        scale = std if self.scales_each_column else std.square().mean().sqrt().expand_as(std)
        self.column_mean.copy_(moments.mean)
        self.column_scale.copy_(torch.where(scale > 0, scale, 1.0))
        # The axes are only a start, so a missing value may count as the mean here.
        self._start_embeddings(self.prepare(reservoir.rows).nan_to_num())

    def prepare(self, cells: Tensor) -> Tensor:
        """Standardise; NaN stays NaN."""
        return (cells.float() - self.column_mean) / self.column_scale

    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Shapes ``(B, M)`` and ``(B, M_visible)`` -> ``(B, L, D)``; missing values are not read."""
        is_measured = ~inputs.isnan()
        if bool(is_measured.all()):
            return self.encoder(inputs, visible)
        return self.encoder(inputs.nan_to_num(), visible, is_measured)

    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict standardised values; shape ``(B, M)``."""
        return cast("ExpressionDecoder", self.decoder)(latents).float()

    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error of the masked values that were measured; shape ``(B,)``."""
        is_scored = mask & ~inputs.isnan()
        return masked_mean((prediction - inputs.nan_to_num()).square(), is_scored)

    def to_measurement(self, prediction: Tensor) -> Tensor:
        """Values in the units of the table; shape ``(B, M)``."""
        return prediction * self.column_scale + self.column_mean

    def model_free_scores(self, reference: Tensor) -> dict[str, Score]:
        """``"mean of column"`` in the reference."""
        mean = reference.nanmean(dim=0).nan_to_num()  # (M,)
        return {"mean of column": lambda inputs, mask: self.loss(mean.expand_as(inputs), inputs, mask)}


class FeaturesModality(ContinuousModality):
    """A table of features, such as CellProfiler's: as :class:`ContinuousModality`, with a scale for each column.

    Values further than 10 standard deviations from the mean of their column are read as 10 standard deviations. Mean
    and standard deviation are those without outliers, so that a single one does not set the scale of its column.

    Parameters
    ----------
    state, settings
        As for :class:`MatrixModality`.
    """

    kind = "features"
    scales_each_column = True

    def __init__(self, state: Mapping[str, Any], settings: EncoderSettings) -> None:
        super().__init__(state, settings)
        self._names = list(state.get("column_names", range(self.n_tokens)))

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """As for :class:`ContinuousModality`, without outliers, which a warning counts."""
        kept = [cells.float() for cells in chunks]  # of up to ten thousand cells
        low, high = _usual_range(kept)
        super().fit_statistics(cells.clamp(low, high) for cells in kept)
        clipped = sum(
            (((cells - self.column_mean) / self.column_scale).abs() > MAX_DEVIATION).sum(dim=0) for cells in kept
        )
        n_clipped = torch.as_tensor(clipped)  # (M,)
        if n_clipped.any():
            # numpy indices: one number of torch would select a name instead of an array of one name
            most = n_clipped.argsort(descending=True, stable=True)[: n_clipped.count_nonzero()].numpy()
            columns = np.asarray(self._names)[most]
            warn(
                f"{int(n_clipped.sum())} values of {sum(map(len, kept))} training cells lie more than "
                f"{MAX_DEVIATION:.0f} standard deviations from the mean of their column, in {_some(columns)}; they are "
                f"read as {MAX_DEVIATION:.0f} standard deviations. If they are errors, replace them by numpy.nan."
            )

    def prepare(self, cells: Tensor) -> Tensor:
        """Standardise and clip; NaN stays NaN."""
        return super().prepare(cells).clamp(-MAX_DEVIATION, MAX_DEVIATION)


class ColumnMoments:
    """Mean and standard deviation of the values of each column that are not missing, chunk by chunk.

    Parameters
    ----------
    n_columns
        Number of columns (M).
    """

    def __init__(self, n_columns: int) -> None:
        self.n, self.mean, self.squares = torch.zeros(3, n_columns, dtype=torch.float64)

    def update(self, values: Tensor) -> None:
        """Add rows, shape ``(n, M)``, float64."""
        is_measured = ~values.isnan()
        n = is_measured.sum(dim=0)
        mean = values.nansum(dim=0) / n.clamp(min=1)
        squares = (values - mean).square().nansum(dim=0)
        total = (self.n + n).clamp(min=1)
        shift = mean - self.mean
        self.squares = self.squares + squares + shift.square() * self.n * n / total
        self.mean = self.mean + shift * n / total
        self.n = self.n + n

    @property
    def std(self) -> Tensor:
        """With divisor n; 0 where only rounding errors vary."""
        std = (self.squares / self.n.clamp(min=1)).sqrt()
        return torch.where(std > 1e-12 * self.mean.abs(), std, 0.0)


def _usual_range(chunks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Values between which the mean and standard deviation of each column are computed; shape ``(M,)`` twice.

    From quantiles, which outliers hardly change. Columns of which nearly all values are equal have no limits.
    """
    reservoir = Reservoir(chunks[0].shape[1])
    for cells in chunks:
        reservoir.update(cells)
    ordered = reservoir.rows.sort(dim=0).values.double()  # missing values last
    last = ((~ordered.isnan()).sum(dim=0) - 1).clamp(min=0)  # (M,)
    quantile = {q: ordered.gather(0, (q * last).round().long()[None])[0] for q in (0.5, *sum(QUANTILES, ()))}
    of_normal = NormalDist().inv_cdf
    spreads = [(quantile[high] - quantile[low]) / (of_normal(high) - of_normal(low)) for low, high in QUANTILES]
    spread, median = torch.stack(spreads).amax(dim=0), quantile[0.5].nan_to_num()
    reach = torch.where(spread > 0, MAX_DEVIATION * spread, torch.inf)
    return (median - reach).float(), (median + reach).float()


def _varies(reader: RowReader) -> np.ndarray:
    """Whether each column has two values, apart from missing ones; shape ``(M,)``."""
    low, high = np.full(reader.shape[1], np.inf), np.full(reader.shape[1], -np.inf)
    for chunk in reader.chunks(np.arange(len(reader))):
        low, high = np.fmin(low, np.fmin.reduce(chunk)), np.fmax(high, np.fmax.reduce(chunk))
    return low < high


def _some(names: Sequence[Any] | NDArray[Any]) -> str:
    """How many columns, and the names of the first ones."""
    return f"{len(names)} columns ({first_names(names)})"
