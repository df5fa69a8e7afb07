"""The Perturb-seq readers on tiny files of the published layout."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from scipy import sparse

from petri_scvi.datasets import hepg2_perturbseq, replogle
from petri_scvi.datasets.cache._registry_public import NADIG, REPLOGLE
from petri_scvi.datasets.public import _large_h5ad, _perturb_seq

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Server

N_CELLS = 60
TARGET = np.array(["non-targeting", "AARS", "TP53", "AARS", "MYC"])[np.arange(N_CELLS) % 5]
COUNTS = np.random.default_rng(0).poisson(1.0, (N_CELLS, 4)).astype(np.float32)


def write(path: Path, counts: np.ndarray = COUNTS, leave_out: str = "") -> None:
    """A dense file with categories beside the columns, as anndata wrote it then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["X"] = counts
        columns: dict[str, Any] = {
            "gem_group": np.arange(N_CELLS) % 3 + 1,
            "UMI_count": counts.sum(axis=1),
            "gene": TARGET,
            "sgID_AB": np.char.add(TARGET, "_a|b"),
        }
        index = np.array([f"AAAC-{i}" for i in range(N_CELLS)], dtype="S")
        _write_table(file, "obs", "cell_barcode", index, {k: v for k, v in columns.items() if k != leave_out})
        symbols = np.array(["TBCE", "AARS", "TBCE", "MYC"])
        _write_table(file, "var", "gene_id", np.array(["E1", "E2", "E3", "E4"], "S"), {"gene_name": symbols})


def _write_table(file: h5py.File, name: str, index: str, names: np.ndarray, columns: dict[str, Any]) -> None:
    group = file.create_group(name)
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": index})
    group.attrs["column-order"] = np.array(list(columns), dtype=object)
    group[index] = names
    for key, values in columns.items():
        if values.dtype.kind != "U":
            group[key] = values
            continue
        categories, codes = np.unique(values, return_inverse=True)
        group[f"__categories/{key}"] = categories.astype("S")
        group[key] = codes.astype(np.int8)
        group[key].attrs["categories"] = group[f"__categories/{key}"].ref


@pytest.fixture
def folder(tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that has the essential genes of K562."""
    entry = dataclasses.replace(REPLOGLE["k562_essential"], is_size_exact=False, md5=None)
    monkeypatch.setitem(_perturb_seq.REPLOGLE, "k562_essential", entry)
    write(tmp_path / entry.file_name)
    return tmp_path


def read(folder: Path, **arguments: Any) -> Any:
    return replogle(cache_dir=folder, progress=False, **arguments)


def test_counts_and_columns_are_those_of_the_file(folder: Path) -> None:
    rna = read(folder)
    assert isinstance(rna.X, sparse.csr_matrix)
    assert rna.X.dtype == np.float32
    np.testing.assert_array_equal(rna.X.toarray(), COUNTS)
    assert rna.obs["perturbation"].tolist() == rna.obs["target_gene"].tolist() == TARGET.tolist()
    assert rna.obs["is_control"].tolist() == (TARGET == "non-targeting").tolist()
    assert set(rna.obs["batch"]) == set(rna.obs["replicate"]) == {"1", "2", "3"}
    assert rna.obs_names[7] == "AAAC-7"
    assert rna.obs["guide"].iloc[1] == "AARS_a|b"
    assert rna.obs["UMI_count"].tolist() == COUNTS.sum(axis=1).tolist()


def test_genes_of_one_symbol_get_different_names(folder: Path) -> None:
    var = read(folder).var
    assert list(var.index) == ["TBCE_E1", "AARS", "TBCE_E3", "MYC"]
    assert list(var["gene_id"]) == ["E1", "E2", "E3", "E4"]


@pytest.mark.parametrize("block", [1, 7, 2**26])
def test_rows_do_not_depend_on_the_blocks_they_are_read_in(
    folder: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_large_h5ad, "BLOCK_BYTES", block * 8 * 4)
    rna = read(folder, genes=["AARS", "MYC"])
    is_chosen = np.isin(TARGET, ["AARS", "MYC", "non-targeting"])
    np.testing.assert_array_equal(rna.X.toarray(), COUNTS[is_chosen])
    assert rna.obs["target_gene"].tolist() == TARGET[is_chosen].tolist()


def test_cells_of_a_target_are_drawn_and_controls_are_all_kept(folder: Path) -> None:
    rna = read(folder, max_cells_per_target=3, seed=1)
    assert rna.obs["target_gene"].value_counts().to_dict() == {"non-targeting": 12, "AARS": 3, "TP53": 3, "MYC": 3}
    rows = [int(name.removeprefix("AAAC-")) for name in rna.obs_names]
    np.testing.assert_array_equal(rna.X.toarray(), COUNTS[rows])
    assert rows != [int(name.removeprefix("AAAC-")) for name in read(folder, max_cells_per_target=3).obs_names]


def test_rows_of_a_sparse_matrix_come_in_the_order_asked_for(tmp_path: Path) -> None:
    from anndata.io import write_elem

    with h5py.File(tmp_path / "sparse.h5", "w") as file:
        write_elem(file, "X", sparse.csr_matrix(COUNTS))
        rows = np.array([50, 3, 17])
        found = _large_h5ad.read_rows(file["X"], rows, is_counts=True, progress=False)
    np.testing.assert_array_equal(found.toarray(), COUNTS[rows])


def test_values_that_are_no_counts_are_refused(folder: Path) -> None:
    write(folder / REPLOGLE["k562_essential"].file_name, COUNTS / 2)
    with pytest.raises(ValueError, match="expected counts"):
        read(folder)


def test_a_file_of_another_layout_is_refused(folder: Path) -> None:
    write(folder / REPLOGLE["k562_essential"].file_name, leave_out="sgID_AB")
    with pytest.raises(KeyError, match=r"no column \['sgID_AB'\] in obs"):
        read(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"which": "k562"}, "'k562_essential', 'rpe1', 'k562_gwps'"),
        ({"genes": "AARS"}, r"such as \['AARS'\]"),
        ({"genes": ["AARS", "Aars"]}, r"genes has \['Aars'\], which the screen does not target.*'AARS', 'MYC'"),
        ({"max_cells_per_target": 0}, "whole number from 1"),
    ],
)
def test_a_bad_argument_is_named(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(folder, **arguments)


def test_hepg2_is_downloaded_and_an_unconfirmed_hash_only_warns(
    tmp_path: Path, user_cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "source.h5ad")
    monkeypatch.setattr("petri_scvi.datasets.cache._download.BLOCK_BYTES", 2**16)
    server.files["hepg2"] = (tmp_path / "source.h5ad").read_bytes()
    n_bytes = len(server.files["hepg2"])
    monkeypatch.setitem(
        _perturb_seq.NADIG, "hepg2", dataclasses.replace(NADIG["hepg2"], url=server.url("hepg2"), n_bytes=n_bytes)
    )
    with pytest.warns(UserWarning, match="another user reported e1ad7c3c"):
        rna = hepg2_perturbseq(cache_dir=tmp_path, progress=False)
    assert rna.shape == COUNTS.shape
    assert len(hepg2_perturbseq(cache_dir=tmp_path, progress=False)) == N_CELLS  # without a warning
    assert len(server.requests) == 1


def test_addresses_and_lengths_are_those_published() -> None:
    assert NADIG["hepg2"].n_bytes == 5_614_460_941
    for entry in (*REPLOGLE.values(), *NADIG.values()):
        assert entry.sha256 is None
        assert entry.why_no_sha256
    assert all(
        len(entry.md5 or "") == hashlib.md5(usedforsecurity=False).digest_size * 2 for entry in REPLOGLE.values()
    )
