from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import dask.array
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from petri_scvi import SparseAutoencoder
from petri_scvi.tl import fit_sae, multimodal_dimensions
from petri_scvi.tl._embedding import find_slots
from petri_scvi.tl.concepts import _sae_minibatches
from petri_scvi.tl.concepts._sae_minibatches import mean_and_scale, shuffled_batches
from petri_scvi.tl.concepts._sparse_rows import SparseRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mudata import MuData

N_CAUSES, N_DIMS = 12, 16
SMALL: dict[str, Any] = {"n_dimensions": 24, "n_active": 2, "batch_size": 64, "progress": False}


def directions() -> np.ndarray:
    drawn = np.random.default_rng(5).normal(size=(N_CAUSES, N_DIMS))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def simulate(n_cells: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings made of two of twelve directions, far from zero; and which ones."""
    rng = np.random.default_rng(seed)
    causes = np.argsort(rng.random((n_cells, N_CAUSES)), axis=1)[:, :2]
    codes = np.zeros((n_cells, N_CAUSES))
    np.put_along_axis(codes, causes, rng.uniform(1, 2, size=(n_cells, 2)), axis=1)
    embedding = 10 + 4 * codes @ directions() + 0.05 * rng.normal(size=(n_cells, N_DIMS))
    return embedding.astype(np.float32), codes


def cells(embedding: Any) -> AnnData:
    return AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(len(embedding))]), obsm={"X_petri": embedding})


@pytest.fixture(scope="module")
def _fitted() -> tuple[AnnData, SparseAutoencoder]:
    adata = cells(simulate()[0])
    return adata, fit_sae(adata, max_epochs=20, **SMALL)


@pytest.fixture
def fitted(_fitted: tuple[AnnData, SparseAutoencoder]) -> tuple[AnnData, SparseAutoencoder]:
    """Cells with known causes and their autoencoder; shared, so tests must not change them."""
    return _fitted


Fitted = tuple[AnnData, SparseAutoencoder]


def test_the_directions_that_made_the_embedding_are_found(fitted: Fitted) -> None:
    adata, sae = fitted
    similarity = directions() @ sae.decoder.T  # (causes, dimensions)
    assert (similarity.max(axis=1) > 0.95).mean() > 0.8
    assert adata.uns["petri_scvi"]["sae"]["explained_variance"] > 0.95


def test_activations_are_sparse_positive_and_as_many_as_asked_for(fitted: Fitted) -> None:
    adata, sae = fitted
    codes = adata.obsm["X_sae"]
    assert isinstance(codes, sparse.csr_matrix)
    assert codes.dtype == np.float32
    assert codes.shape == (1500, 24)
    assert codes.data.min() >= sae.threshold > 0
    assert codes.nnz / 1500 == pytest.approx(2, rel=0.1)
    np.testing.assert_allclose(np.linalg.norm(sae.decoder, axis=1), 1, rtol=1e-5)


def test_what_is_said_of_the_fit_is_so(fitted: Fitted) -> None:
    adata, sae = fitted
    embedding, codes = adata.obsm["X_petri"], adata.obsm["X_sae"]
    result = adata.uns["petri_scvi"]["sae"]
    reconstructed = codes @ sae.decoder + sae.decoder_bias
    np.testing.assert_allclose(sae.decode(codes), reconstructed, rtol=1e-5)
    expected = 1 - np.square(embedding - reconstructed).sum() / np.square(embedding - embedding.mean(axis=0)).sum()
    assert result["explained_variance"] == pytest.approx(expected, abs=1e-5)
    assert result["table"]["n_active"].item() == pytest.approx(codes.nnz / 1500)
    assert result["n_dead"] == (codes.getnnz(axis=0) == 0).sum()
    assert len(result["losses"]) == round(20 * 1500 / 64)
    assert result["losses"][-1] < 0.1 * result["losses"][0]
    assert result["parameters"]["key"] == "X_petri"
    assert (result["parameters"]["n_dimensions"], result["parameters"]["n_active"]) == (24, 2)


def test_activations_of_a_cell_do_not_depend_on_the_others(fitted: Fitted) -> None:
    adata, sae = fitted
    some = [3, 700, 11]
    np.testing.assert_allclose(
        sae.encode(adata.obsm["X_petri"][some]).toarray(), adata.obsm["X_sae"][some].toarray(), rtol=1e-4, atol=1e-4
    )


def test_a_saved_autoencoder_encodes_as_before_and_nothing_is_overwritten(fitted: Fitted, tmp_path: Path) -> None:
    adata, sae = fitted
    sae.save(tmp_path / "sae.pt")
    with pytest.raises(ValueError, match="already exists. Choose another file, or pass overwrite=True"):
        sae.save(tmp_path / "sae.pt")
    sae.save(tmp_path / "sae.pt", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["sae.pt"]
    loaded = SparseAutoencoder.load(tmp_path / "sae.pt")
    assert (loaded.n_active, loaded.threshold) == (sae.n_active, sae.threshold)
    other = simulate(seed=7)[0]
    assert (loaded.encode(other) != sae.encode(other)).nnz == 0
    (tmp_path / "half.pt").write_bytes((tmp_path / "sae.pt").read_bytes()[:500])
    with pytest.raises(ValueError, match="does not hold a complete sparse autoencoder"):
        SparseAutoencoder.load(tmp_path / "half.pt")
    with pytest.raises(FileNotFoundError):
        SparseAutoencoder.load(tmp_path / "none.pt")
    with pytest.raises(ValueError, match=r"shape \(5, 3\); expected \(n_cells, 16\)"):
        sae.encode(np.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"activations has shape \(5, 3\); expected \(n_cells, 24\), one column per"):
        sae.decode(np.zeros((5, 3)))


def test_files_of_another_kind_are_no_autoencoder(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("embedding")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "folder.pt").mkdir()
    np.save(tmp_path / "array.npy", np.zeros((3, 2)))
    torch.save({"weights": 1}, tmp_path / "other.pt")
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match="does not hold a complete sparse autoencoder. Pass the file") as caught:
            SparseAutoencoder.load(path)
        assert "weights_only" not in str(caught.value)


def test_the_seed_decides_everything() -> None:
    codes = []
    for seed in (0, 0, 1):
        adata = cells(simulate(300)[0])
        fit_sae(adata, max_epochs=3, seed=seed, **SMALL)
        codes.append(adata.obsm["X_sae"])
    assert (codes[0] != codes[1]).nnz == 0
    assert (codes[0] != codes[2]).nnz > 0


@pytest.fixture(params=["memmap", "h5py", "dask", "frame", "csr"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """The same embedding, wherever it may lie."""
    embedding = simulate(300)[0]
    if request.param == "memmap":
        np.save(tmp_path / "embedding.npy", embedding)
        yield np.load(tmp_path / "embedding.npy", mmap_mode="r")
    elif request.param == "h5py":
        with h5py.File(tmp_path / "embedding.h5", "w") as file:
            yield file.create_dataset("embedding", data=embedding, chunks=(50, 16))
    elif request.param == "dask":
        yield dask.array.from_array(embedding, chunks=(70, 16))
    elif request.param == "frame":
        yield pd.DataFrame(embedding, index=[f"c{i}" for i in range(300)])
    else:
        yield sparse.csr_matrix(embedding)


def test_the_embedding_may_lie_anywhere(stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sae_minibatches, "BLOCK_ROWS", 32)
    monkeypatch.setattr(_sae_minibatches, "POOL_ROWS", 128)  # so that it does not fit into memory
    expected, adata = cells(simulate(300)[0]), cells(np.zeros((300, 16)))
    adata.obsm["X_petri"] = stored
    fit_sae(expected, max_epochs=2, **SMALL)
    fit_sae(adata, max_epochs=2, **SMALL)
    np.testing.assert_array_equal(adata.obsm["X_sae"].toarray(), expected.obsm["X_sae"].toarray())


@pytest.mark.parametrize("pool_rows", [10_000, 128])
def test_every_cell_comes_once_before_any_comes_again(monkeypatch: pytest.MonkeyPatch, pool_rows: int) -> None:
    monkeypatch.setattr(_sae_minibatches, "BLOCK_ROWS", 32)
    monkeypatch.setattr(_sae_minibatches, "POOL_ROWS", pool_rows)
    number = np.arange(350, dtype=np.float32)[:, None]
    slots = find_slots(cells(number[:200]), "X_petri") + find_slots(cells(number[200:]), "X_petri")
    batches = shuffled_batches(slots, 50, np.random.default_rng(0))
    epochs = [np.concatenate([next(batches) for _ in range(7)]).ravel() for _ in range(2)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), number.ravel())
        assert np.abs(np.diff(epoch)).mean() > 30  # neighbours do not stay together
    assert (epochs[0] != epochs[1]).any()


def test_mean_and_scale_are_exact_far_from_zero() -> None:
    embedding = 1e4 + np.random.default_rng(0).normal(size=(20_000, 3))
    mean, scale, n_rows, n_bad = mean_and_scale(find_slots(cells(embedding), "X_petri"))
    np.testing.assert_allclose(mean, embedding.mean(axis=0), rtol=1e-12)
    assert scale == pytest.approx(np.sqrt(embedding.var(axis=0).mean()), rel=1e-8)
    assert (n_rows, n_bad) == (20_000, 0)


def test_sparse_rows_grow_beyond_what_was_expected() -> None:
    dense = (np.random.default_rng(0).random((50, 9)) > 0.3).astype(np.float32)
    rows = SparseRows(50, 9, 1)
    for start in range(0, 50, 20):
        rows.append(sparse.csr_matrix(dense[start : start + 20]))
    np.testing.assert_array_equal(rows.finish().toarray(), dense)


@pytest.mark.parametrize("shared", [True, False])
def test_modalities_share_one_matrix_aligned_with_the_cells(
    make_mudata: Callable[..., MuData], shared: bool, tmp_path: Path
) -> None:
    mdata = make_mudata(shared=shared)
    sae = fit_sae(mdata, "X_emb", max_epochs=2, **SMALL)
    assert "X_sae" not in mdata["image"].obsm
    image, rna = (mdata if shared else mdata[name] for name in ("image", "rna"))
    rows = [np.asarray(mdata.obsmap[name]).ravel() > 0 for name in ("image", "rna")]
    for holder, is_here in ((image, rows[0]), (rna, rows[1])):
        embedding = holder.obsm["X_emb"][is_here] if shared else holder.obsm["X_emb"]
        np.testing.assert_allclose(
            mdata.obsm["X_sae"][is_here].toarray(), sae.encode(embedding).toarray(), rtol=1e-4, atol=1e-4
        )
    result = mdata.uns["petri_scvi"]["sae"]
    assert result["table"]["modality"].tolist() == ["image", "rna"]
    mdata.write(tmp_path / "screen.h5mu")
    read = mudata.read(tmp_path / "screen.h5mu")
    assert (read.obsm["X_sae"] != mdata.obsm["X_sae"]).nnz == 0
    assert read.uns["petri_scvi"]["sae"]["parameters"]["key"] == "X_emb"
    np.testing.assert_array_equal(read.uns["petri_scvi"]["sae"]["losses"], result["losses"])


def test_cells_with_two_embeddings_keep_theirs_in_each_modality(make_mudata: Callable[..., MuData]) -> None:
    paired = mudata.MuData({name: m.copy() for name, m in make_mudata(shared=False).mod.items()})
    for modality in paired.mod.values():
        modality.obs_names = [f"cell{i}" for i in range(modality.n_obs)]
    paired = mudata.MuData(dict(paired.mod))
    fit_sae(paired, "X_emb", max_epochs=1, **SMALL)
    assert "X_sae" not in paired.obsm
    assert paired["image"].obsm["X_sae"].shape == paired["rna"].obsm["X_sae"].shape == (320, 24)


def test_results_survive_a_file_and_other_slots_have_other_results(fitted: Fitted, tmp_path: Path) -> None:
    adata = fitted[0].copy()
    fit_sae(adata, max_epochs=1, key_added="X_other", **SMALL)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    read = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert sorted(read.uns["petri_scvi"]) == ["sae", "sae_X_other"]
    assert (read.obsm["X_sae"] != adata.obsm["X_sae"]).nnz == 0


def test_results_about_the_autoencoder_before_are_forgotten_and_others_stay(fitted: Fitted) -> None:
    adata = fitted[0].copy()
    results = adata.uns["petri_scvi"]
    parameters = {"about": {"key": "X_sae"}, "several": {"keys": np.array(["X_sae", "X"])}, "other": {"key": "X"}}
    adata.uns["petri_scvi"] = results | {name: {"parameters": found} for name, found in parameters.items()}
    fit_sae(adata, max_epochs=0.1, **SMALL)
    assert set(adata.uns["petri_scvi"]) == {"other", "sae"}


def test_sizes_follow_the_data_and_the_share_of_the_paper() -> None:
    adata = cells(simulate(1000)[0])
    fit_sae(adata, max_epochs=1, progress=False)
    parameters = adata.uns["petri_scvi"]["sae"]["parameters"]
    assert (parameters["n_dimensions"], parameters["n_active"]) == (62, 2)
    assert parameters["batch_size"] == 1000  # no more than there are cells


def test_what_cannot_be_fitted_is_refused_before_anything_is_written(make_mudata: Callable[..., MuData]) -> None:
    adata = cells(simulate(100)[0])
    with pytest.raises(KeyError, match="key='X_none' is not in adata.obsm.*Store the embedding first"):
        fit_sae(adata, "X_none", progress=False)
    with pytest.raises(ValueError, match="n_active=9 is more than n_dimensions=4. Pass more dimensions or fewer"):
        fit_sae(adata, n_dimensions=4, n_active=9, progress=False)
    with pytest.raises(ValueError, match="n_active=50 is more than n_dimensions=6. Pass more dimensions or fewer"):
        fit_sae(adata, n_active=50, progress=False)
    with pytest.raises(ValueError, match="n_dimensions=0; it must be at least 1"):
        fit_sae(adata, n_dimensions=0, progress=False)
    with pytest.raises(ValueError, match="accelerator='tpux' is not a device that torch can use here"):
        fit_sae(adata, accelerator="tpux", progress=False)
    with pytest.raises(ValueError, match="max_epochs=-1 is not accepted; pass a positive number"):
        fit_sae(adata, max_epochs=-1, progress=False)
    adata.obsm["X_bad"] = np.where(np.arange(100)[:, None] < 3, np.nan, adata.obsm["X_petri"])
    with pytest.raises(ValueError, match=r"obsm\['X_bad'\] is NaN or infinite in 3 of 100 cells. Leave these out"):
        fit_sae(adata, "X_bad", progress=False)
    adata.obsm["X_flat"] = np.ones((100, 3))
    with pytest.raises(ValueError, match=r"obsm\['X_flat'\] is the same in all 100 cells"):
        fit_sae(adata, "X_flat", progress=False)
    assert set(adata.obsm) == {"X_petri", "X_bad", "X_flat"}
    assert "petri_scvi" not in adata.uns
    mdata = make_mudata(shared=False)
    mdata["rna"].obsm["X_bad"] = mdata["rna"].obsm["X_emb"].copy()
    mdata["rna"].obsm["X_bad"][0] = np.nan
    with pytest.raises(
        ValueError, match=r"NaN or infinite in 1 of .* mdata.mod\['rna'\] = mdata\['rna'\]\[numpy.isfin"
    ):
        fit_sae(mdata, "X_bad", progress=False)
    mdata["rna"].obsm["X_emb"] = mdata["rna"].obsm["X_emb"][:, :3]
    with pytest.raises(ValueError, match=r"different widths, \{'image': 5, 'rna': 3\}, so they do not share a space"):
        fit_sae(mdata, "X_emb", progress=False)


def test_dimensions_without_any_cell_are_warned_about() -> None:
    adata = cells(simulate(200)[0])
    with pytest.warns(UserWarning, match="of 2000 dimensions are active in no cell. Pass fewer, for example"):
        fit_sae(adata, n_dimensions=2000, n_active=1, max_epochs=1, progress=False)


@pytest.mark.slow
def test_directions_that_modalities_share_become_multimodal_and_others_do_not() -> None:
    """Causes 0 to 3 move cells of both modalities, 4 to 7 those of the first, and 8 to 11 those of the second."""
    rng = np.random.default_rng(0)
    seen = {"image": np.r_[0:8], "rna": np.r_[0:4, 8:12]}
    mods = {}
    for name, causes in seen.items():
        codes = np.zeros((1500, N_CAUSES))
        codes[:, causes] = (rng.random((1500, 8)) < 0.3) * rng.uniform(1, 2, size=(1500, 8))
        embedding = codes @ directions() + 0.05 * rng.normal(size=(1500, N_DIMS))
        obs = pd.DataFrame(index=[f"{name}{i}" for i in range(1500)])
        mods[name] = AnnData(obs=obs, obsm={"X_petri": embedding.astype(np.float32)})
    mdata = mudata.MuData(mods)
    sae = fit_sae(mdata, n_dimensions=16, n_active=3, batch_size=128, max_epochs=25, progress=False)
    multimodal_dimensions(mdata)
    table = mdata.uns["petri_scvi"]["multimodal_dimensions"]["table"]
    similarity = sae.decoder @ directions().T  # (dimensions, causes)
    is_clear, cause = similarity.max(axis=1) > 0.9, similarity.argmax(axis=1)
    assert is_clear.sum() >= 8
    np.testing.assert_array_equal(table["is_multimodal"][is_clear], cause[is_clear] < 4)
