"""Same numbers as independent implementations; ``make oracles`` installs them."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from petri_scvi.tl import center_scale, edge_recall, efaar_recall, guide_consistency, mean_average_precision, whiten
from petri_scvi.tl._results import null_p_values
from petri_scvi.tl._similarity import Similarities, unit_rows
from petri_scvi.tl.scores._average_precision import guide_average_precision
from petri_scvi.tl.scores._perturbation_strength import energy_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeProfiles = Callable[..., AnnData]


@pytest.fixture(autouse=True)
def _warnings_of_others() -> Iterator[None]:
    """The oracles warn when imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def oracle(module: str) -> Any:
    if os.environ.get("PETRI_SCVI_ORACLES") == "required":
        return importlib.import_module(module)
    return pytest.importorskip(module, exc_type=ImportError)


def efaar() -> Any:
    return oracle("efaar_benchmarking.benchmarking")


@pytest.mark.parametrize("against_controls", [False, True])
def test_average_precision_equals_copairs(make_profiles: MakeProfiles, against_controls: bool) -> None:
    copairs = oracle("copairs.map")
    profiles = make_profiles(n_genes=15, n_guides=4, signal=0.6, n_controls=20)
    if not against_controls:
        profiles = profiles[profiles.obs["target_gene"] != "non-targeting"].copy()
    meta = profiles.obs.reset_index(drop=True)
    meta["is_control"] = meta["target_gene"] == "non-targeting"
    expected = copairs.average_precision(
        meta,
        np.asarray(profiles.X),
        pos_sameby=["target_gene"],
        pos_diffby=[],
        neg_sameby=[],
        neg_diffby=["target_gene", "is_control"] if against_controls else ["target_gene"],
        progress_bar=False,
    )
    expected = expected[~expected["is_control"]]
    unit, is_control = unit_rows(np.asarray(profiles.X)), meta["is_control"].to_numpy()
    found = guide_average_precision(Similarities(unit), meta["target_gene"].to_numpy(), is_control, against_controls)
    np.testing.assert_allclose(found["average_precision"], expected["average_precision"], atol=1e-6)
    np.testing.assert_array_equal(found["n_ranked"], expected["n_total_pairs"])

    scored = copairs.mean_average_precision(
        expected, ["target_gene"], null_size=20_000, threshold=0.05, seed=0, progress_bar=False
    ).set_index("target_gene")
    mean_average_precision(
        profiles,
        negatives="controls" if against_controls else "other_genes",
        control="non-targeting" if against_controls else None,
    )
    table = profiles.uns["petri_scvi"]["mean_average_precision"]["table"].set_index("target_gene")
    scored = scored.loc[table.index]
    for name in ("mean_average_precision", "mean_normalized_average_precision"):
        np.testing.assert_allclose(table[name], scored[name], atol=1e-6)
    # The nulls are drawn with different generators: equal within four standard errors of a share of 20,000.
    np.testing.assert_allclose(table["p_value"], scored["p_value"], atol=4 * np.sqrt(0.5 / 20_000))


def test_whitening_equals_pycytominer() -> None:
    """Components may be mirrored, as signs of singular vectors are arbitrary."""
    transform = oracle("pycytominer.operations.transform")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 10
    expected = transform.Spherize(epsilon=0, method="PCA", return_numpy=True).fit_transform(pd.DataFrame(values))
    adata = AnnData(obsm={"X": values})
    whiten(adata, "X")
    found = adata.obsm["X_whitened"]
    np.testing.assert_allclose(found * np.sign(np.sum(found * expected, axis=0)), expected, atol=1e-6)


def test_center_scale_equals_pycytominer() -> None:
    transform = oracle("pycytominer.operations.transform")
    rng = np.random.default_rng(0)
    values, is_control = rng.normal(size=(200, 6)) * 3 + 10, np.arange(200) % 3 == 0
    robust = transform.RobustMAD(epsilon=0).fit(pd.DataFrame(values[is_control]))
    obs = pd.DataFrame({"target_gene": np.where(is_control, "non-targeting", "A"), "replicate": "r"})
    adata = AnnData(obs=obs.set_index(obs.index.astype(str)), obsm={"X": values})
    center_scale(adata, "X")
    expected = robust.transform(pd.DataFrame(values)) * 1.4826 / 1.482602218505602  # it rounds the constant
    np.testing.assert_allclose(adata.obsm["X_scaled"], expected, atol=1e-6)


def test_similarity_and_p_values_equal_efaar(make_profiles: MakeProfiles) -> None:
    """Genes with one guide are left out: there its similarities are NaN and its p-values wrong."""
    profiles = make_profiles(n_genes=40, n_guides=4, signal=0.6)
    genes = profiles.obs["target_gene"].unique()
    null_genes = list(genes[:25])  # its null is the similarity of guides of genes that are given as inactive
    expected = (
        efaar()
        .pert_signal_consistency_benchmark(
            np.asarray(profiles.X), profiles.obs, "target_gene", null_genes, ["non-targeting"], n_jobs=1
        )
        .set_index("pert")
    )
    guide_consistency(profiles)
    table = profiles.uns["petri_scvi"]["guide_consistency"]["table"].set_index("target_gene")
    found = table.loc[expected.index, "similarity"].to_numpy()
    np.testing.assert_allclose(found, expected["avgcossim"], atol=1e-6)
    # It counts the same draws, but adds one to neither count.
    p_values = null_p_values(found, table.loc[null_genes, "similarity"].to_numpy())
    np.testing.assert_allclose(p_values, (25 * expected["pval"] + 1) / 26, atol=1e-6)


def known_pairs(n: int, seed: int) -> tuple[AnnData, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    names = [f"G{i}" for i in range(n)]
    vectors = rng.normal(size=(n, 5))
    vectors[1::4] = vectors[::4] + 0.5 * rng.normal(size=(len(vectors[1::4]), 5))
    edges = pd.DataFrame({"entity1": names[::4][: len(names[1::4])], "entity2": names[1::4]})
    more = rng.choice(names, size=(60, 2))
    edges = pd.concat([edges, pd.DataFrame(more, columns=edges.columns)])
    profiles = AnnData(X=vectors, obs=pd.DataFrame({"target_gene": names}, index=names))
    return profiles, edges[edges["entity1"] != edges["entity2"]]


@pytest.mark.parametrize("seed", range(3))
def test_two_sided_recall_equals_efaar(seed: int, tmp_path: Any) -> None:
    benchmark, sklearn_utils = efaar(), oracle("sklearn.utils")
    profiles, edges = known_pairs(80, seed)
    edges.to_csv(tmp_path / "mine.txt", index=False)
    screen = sklearn_utils.Bunch(features=pd.DataFrame(profiles.X), metadata=profiles.obs.reset_index(drop=True))
    for tail in (0.05, 0.1):
        expected = benchmark.known_relationship_benchmark(
            screen, "target_gene", ["mine"], [(tail, 1 - tail)], 20, str(tmp_path)
        )
        efaar_recall(profiles, edges, tail=tail, control=None)
        found = profiles.uns["petri_scvi"]["efaar_recall"]["score"]
        assert found == pytest.approx(expected[f"recall_{tail}_{1 - tail}"].item(), abs=1e-6)


def test_edges_are_those_that_efaar_keeps() -> None:
    profiles, edges = known_pairs(80, 0)
    edge_recall(profiles, edges, control=None)
    kept = efaar().filter_relationships(edges.copy())
    assert profiles.uns["petri_scvi"]["edge_recall"]["n_positive"] == len(kept)


def test_energy_distance_equals_efaar() -> None:
    """It averages over self-pairs too, whose distance geomloss takes to be 1e-4; ours does not."""
    rng = np.random.default_rng(0)
    treated, control = rng.normal(size=(30, 4)), rng.normal(size=(50, 4)) + 0.3
    expected = efaar().pert_signal_magnitude_metric(treated, control)
    label = np.repeat([True, False], [30, 50])
    found, _ = energy_test(np.vstack([treated, control]), label, np.zeros(80, dtype=np.intp), 1, rng)
    of_self = 0.0
    for cells in (treated, control):
        distances = np.linalg.norm(cells[:, None] - cells[None], axis=2)
        of_self += distances.sum() / len(cells) ** 2 / (len(cells) - 1) - 1e-4 / len(cells)
    assert found + of_self == pytest.approx(expected, abs=1e-6)
