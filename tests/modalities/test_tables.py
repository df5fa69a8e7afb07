"""Continuous values and features, with missing values."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData

from petri_scvi import PETRI, pp
from petri_scvi._model import DEFAULTS
from petri_scvi.modalities import ContinuousModality, FeaturesModality, Kind, Settings
from petri_scvi.modalities._tables import ColumnMoments

if TYPE_CHECKING:
    from mudata import MuData

SIZES: dict[str, Any] = {"n_latent_tokens": 3, "embed_dim": 8, "n_heads": 2, "expression_decoder_dim": 8}
N_COLUMNS = 6


def make(kind: type[ContinuousModality] = FeaturesModality, **changes: Any) -> ContinuousModality:
    torch.manual_seed(0)
    return kind({"n_vars": N_COLUMNS}, Settings.of(DEFAULTS, **SIZES, expression_encoder_depth=1, **changes))


@pytest.fixture
def table(rng: np.random.Generator) -> torch.Tensor:
    """Columns of very different scales, a fifth of the values missing."""
    values = rng.normal(size=(40, N_COLUMNS)) * 10.0 ** np.arange(-2, 4) + 7
    values[rng.random(values.shape) < 0.2] = np.nan
    return torch.as_tensor(values, dtype=torch.float32)


def test_moments_are_those_of_the_values_that_are_not_missing(table: torch.Tensor) -> None:
    moments = ColumnMoments(N_COLUMNS)
    for chunk in (table[:7], table[7:8], table[8:]):
        moments.update(chunk.double())
    values = table.double().numpy()
    np.testing.assert_allclose(moments.mean, np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.std, np.nanstd(values, axis=0), rtol=1e-12)


def test_features_get_a_scale_each_and_continuous_columns_one_for_all(table: torch.Tensor) -> None:
    features, continuous = make(), make(ContinuousModality)
    for modality in (features, continuous):
        modality.fit_statistics([table[:10], table[10:]])
    np.testing.assert_allclose(np.nanstd(features.prepare(table), axis=0), 1, rtol=1e-4)
    spread = np.nanstd(continuous.prepare(table).double(), axis=0)
    assert np.square(spread).mean() == pytest.approx(1, rel=1e-4)
    assert spread[-1] > 1000 * spread[0]
    torch.testing.assert_close(
        features.to_measurement(features.prepare(table)), table, equal_nan=True, rtol=1e-4, atol=0.01
    )


@pytest.mark.parametrize("changes", [{}, {"linear_path": False}, {"gene_reads": "tokens"}])
def test_missing_values_are_neither_read_nor_scored(table: torch.Tensor, changes: dict[str, Any]) -> None:
    """A missing value acts like a masked one, whatever else is in its place."""
    modality = make(**changes)
    modality.fit_statistics([table])
    values = table.nan_to_num(nan=3.0)
    lacking = values.clone()
    lacking[:, 2] = np.nan
    visible = torch.tensor([0, 1, 3, 4, 5]).expand(len(table), -1)
    complete, partial = modality.prepare(values), modality.prepare(lacking)
    torch.testing.assert_close(modality.encode(partial), modality.encode(complete, visible), rtol=1e-4, atol=1e-5)
    shown = torch.tensor([1, 2, 5]).expand(len(table), -1)
    rest = torch.tensor([1, 5]).expand(len(table), -1)
    torch.testing.assert_close(modality.encode(partial, shown), modality.encode(complete, rest), rtol=1e-4, atol=1e-5)
    mask, without = torch.zeros(2, len(table), N_COLUMNS, dtype=torch.bool)
    mask[:, 1:4] = True
    without[:, [1, 3]] = True
    prediction = torch.randn(len(table), N_COLUMNS, requires_grad=True)
    loss = modality.loss(prediction, partial, mask)
    torch.testing.assert_close(loss, modality.loss(prediction, complete, without))
    loss.sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    assert not prediction.grad[:, 2].any()


def test_a_cell_of_which_only_missing_values_are_visible_has_finite_latents_and_gradients(table: torch.Tensor) -> None:
    modality = make()
    modality.fit_statistics([table])
    inputs = modality.prepare(table)
    inputs[:, 0] = np.nan
    latents = modality.encode(inputs, torch.zeros(len(table), 1, dtype=torch.int64))
    torch.testing.assert_close(latents[:1].expand_as(latents), latents)
    latents.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in modality.parameters())


def test_outliers_are_clipped_and_counted_and_do_not_set_the_scale(rng: np.random.Generator) -> None:
    plain = torch.as_tensor(rng.normal(size=(400, N_COLUMNS)) * 10.0 ** np.arange(-2, 4) + 7, dtype=torch.float32)
    plain[:, 5] = (plain[:, 5] > 1.9e3).float()  # nearly all values are equal
    wild = plain.clone()
    wild[3, 0], wild[7, 2] = 1e6, -1e8
    modality, other = make(), make()
    vars(modality)["_names"] = [f"column {i}" for i in range(N_COLUMNS)]
    with pytest.warns(UserWarning, match=r"2 values of 400 training cells .* 2 columns \(column 0, column 2\)"):
        modality.fit_statistics([wild[:100], wild[100:]])
    wild_once = plain.clone()
    wild_once[3, 0] = 1e6
    with pytest.warns(UserWarning, match=r"1 columns \(column 0\)"):
        modality.fit_statistics([wild_once])
    with pytest.warns(UserWarning, match="2 values"):
        modality.fit_statistics([wild[:100], wild[100:]])
    other.fit_statistics([plain])
    torch.testing.assert_close(modality.column_scale, other.column_scale, rtol=0.2, atol=0)
    prepared = modality.prepare(wild)
    assert prepared[3, 0] == 10
    assert prepared[7, 2] == -10
    assert prepared.abs().max() == 10
    is_plain = wild == plain
    torch.testing.assert_close(prepared[is_plain], other.prepare(plain)[is_plain], rtol=0.2, atol=0.05)


def test_a_table_without_outliers_is_standardised_by_plain_moments(rng: np.random.Generator) -> None:
    table = torch.as_tensor(rng.normal(size=(300, N_COLUMNS)) * 5 + 1, dtype=torch.float32)
    modality = make()
    modality.fit_statistics([table[:120], table[120:]])
    moments = ColumnMoments(N_COLUMNS)
    for chunk in (table[:120], table[120:]):
        moments.update(chunk.double())
    assert (modality.column_mean == moments.mean.float()).all()
    assert (modality.column_scale == moments.std.float()).all()
    torch.testing.assert_close(modality.prepare(table), (table - modality.column_mean) / modality.column_scale)


def with_table(screen: MuData, rng: np.random.Generator, n_missing: int = 200) -> MuData:
    """The tiny screen, and a table of its morphology in another number of cells, with gaps and a constant column."""
    image = screen["image"]
    table = image.obsm["true_morphology"].copy()
    table["area"] = table["cell_size"] * 5000
    table["round"] = 1
    table["whole"] = np.arange(len(table)) % 5
    rows, columns = rng.integers(len(table), size=n_missing), rng.integers(len(table.columns) - 2, size=n_missing)
    values = table.to_numpy(dtype=np.float64, copy=True)
    values[rows, columns] = np.nan
    table = pd.DataFrame(values, index=table.index, columns=table.columns)
    obs = image.obs[["perturbation", "guide", "is_control"]].copy()
    return pp.build_mudata(profile=AnnData(obs=obs, obsm={"cp": table}), rna=screen["rna"])


def test_a_table_with_gaps_trains_embeds_and_finds_its_columns_by_name(
    screen: MuData, tiny: dict[str, Any], rng: np.random.Generator, tmp_path: Any
) -> None:
    mdata = with_table(screen, rng)
    kinds: dict[str, Any] = {"profile": Kind("features", obsm="cp"), "rna": "counts"}
    with pytest.warns(UserWarning, match=r"1 columns \(round\) of mdata\['profile'\].obsm\['cp'\] do not vary"):
        PETRI.setup_mudata(mdata, modalities=kinds)
    model = PETRI(mdata, **tiny)
    assert "round" not in model.get_var_names()["profile"]
    model.train(max_epochs=8, accelerator="cpu", enable_progress_bar=False, plan_kwargs={"lr": 3e-3})
    losses = model.history["train_loss_profile"].to_numpy(dtype=float).ravel()
    assert losses[-1] < 0.95 * losses[0]
    embedding = model.get_latent_representation(modality="profile")
    assert np.isfinite(embedding).all()
    errors = model.get_reconstruction_error().set_index(["modality", "predictor"])["loss"]
    assert errors["profile", "PETRI"] < errors["profile", "mean of column"]
    assert np.isfinite(model.cross_modal_gain(n_documents=1)["gain"]).all()
    model.save(str(tmp_path / "model"))
    loaded = PETRI.load(str(tmp_path / "model"), adata=False)
    table = mdata["profile"].obsm["cp"]
    shuffled = AnnData(obs=mdata["profile"].obs.copy(), obsm={"cp": table[table.columns[::-1]]})
    new = pp.build_mudata(profile=shuffled)
    np.testing.assert_allclose(loaded.get_latent_representation(new), embedding, rtol=1e-4, atol=1e-5)
    shuffled.obsm["cp"] = table.drop(columns=["area", "nucleus_size"])
    with pytest.warns(UserWarning, match=r"2 columns \(nucleus_size, area\) of the model are missing"):
        partial = loaded.get_latent_representation(pp.build_mudata(profile=shuffled))
    assert np.isfinite(partial).all()
    assert np.corrcoef(partial.ravel(), embedding.ravel())[0, 1] > 0.7
    shuffled.obsm["cp"] = table.add_prefix("other ")
    with pytest.raises(ValueError, match="none of the 12 columns of the model"):
        loaded.get_latent_representation(pp.build_mudata(profile=shuffled))


def test_an_outlier_of_a_million_deviations_does_not_change_what_is_learned(
    screen: MuData, tiny: dict[str, Any], rng: np.random.Generator
) -> None:
    losses = []
    kinds: dict[str, Any] = {"profile": Kind("features", obsm="cp"), "rna": "counts"}
    plain = with_table(screen, rng, n_missing=0)
    plain["profile"].obsm["cp"] = plain["profile"].obsm["cp"].drop(columns="round")
    for is_wild in (False, True):
        mdata = plain.copy()
        if is_wild:
            table = mdata["profile"].obsm["cp"].astype(float)
            table.iloc[5, 1] += 1e6 * table.iloc[:, 1].std()
            mdata["profile"].obsm["cp"] = table
        PETRI.setup_mudata(mdata, modalities=kinds)
        scvi.settings.seed = 0
        model = PETRI(mdata, **tiny)
        found = pytest.warns(UserWarning, match="1 values of 2.. training cells") if is_wild else nullcontext()
        with found:
            model.train(max_epochs=3, train_size=1.0, accelerator="cpu", enable_progress_bar=False)
        losses.append(model.history["train_loss_profile"].to_numpy(dtype=float).ravel())
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)


def test_what_a_table_cannot_hold_is_refused(screen: MuData, rng: np.random.Generator) -> None:
    mdata = with_table(screen, rng, n_missing=0)
    profile = mdata["profile"]
    table = profile.obsm["cp"]
    kinds: dict[str, Any] = {"profile": Kind("features", obsm="cp")}
    for value, words in [(np.inf, "has 13 infinite values"), (np.nan, "has 1 of 240 cells without any value")]:
        changed = table.copy()
        changed.iloc[3] = value
        profile.obsm["cp"] = changed
        with pytest.raises(ValueError, match=words):
            PETRI.setup_mudata(mdata, modalities=kinds)
    profile.obsm["cp"] = table[["round"]]
    with pytest.raises(ValueError, match="no column of .* varies"):
        PETRI.setup_mudata(mdata, modalities=kinds)
    profile.obsm["cp"] = table.assign(name="a")
    with pytest.raises(ValueError, match="hold no numbers"):
        PETRI.setup_mudata(mdata, modalities=kinds)
    with pytest.raises(KeyError, match=r"obsm='features' is not in mdata\['profile'\].obsm; it has \['cp'\]"):
        PETRI.setup_mudata(mdata, modalities={"profile": Kind("features", obsm="features")})
