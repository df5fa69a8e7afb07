"""The paper's comparison: finished runs are not repeated, failed runs leave nothing, and rows match their settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pooch
import pytest

from benchmarks import paper_table
from benchmarks._paper_summary import paired_differences, write_summary
from benchmarks._screens import prepare_perturb_multi
from benchmarks._systems import ABLATIONS, PERMUTED_KEY, SYSTEMS, Job, Row
from petri_scvi.common import _files
from petri_scvi.datasets.public import _stringdb
from tests.tiny_perturb_multi import write_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = paper_table.Settings(
    "synthetic",
    {"n_cells": 300, "n_pathways": 2, "n_genes": 30, "image_size": 8},
    n_steps=2,
    network={"embed_dim": 16},
    plan={},
)
NOT_RUN = {"dinov2", "openphenom", "scgpt", "image_features", "scvi"}
"""Systems that need files or an extra, or do not read the settings."""
SETTINGS.network.update(patch_size=4, image_encoder_depth=1, expression_encoder_depth=1)


def run(name: str, folder: Path) -> pd.DataFrame:
    paper_table.run_system(name, SETTINGS, 0, {}, folder)
    return pd.read_csv(folder / f"{name}.csv")


def test_a_system_that_is_done_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("pca", tmp_path)

    def fails(job: Job) -> Iterator[Row]:
        raise AssertionError("run again")

    monkeypatch.setitem(SYSTEMS, "pca", fails)
    pd.testing.assert_frame_equal(run("pca", tmp_path), first)


def test_an_interrupted_system_leaves_nothing_that_looks_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(job: Job) -> Iterator[Row]:
        yield Row("half", {"image": np.zeros((job.mdata["image"].n_obs, 2))}, is_shared=False)
        raise KeyboardInterrupt

    monkeypatch.setitem(SYSTEMS, "pca", stops)
    with pytest.raises(KeyboardInterrupt):
        run("pca", tmp_path)
    assert not list(tmp_path.glob("pca.*"))


def test_differences_are_paired_by_screen_with_t_intervals() -> None:
    rows = []
    for seed, (ours, other) in enumerate([(0.7, 0.6), (0.8, 0.6), (0.9, 0.6)]):
        for system, value in (("PETRI", ours), ("other", other)):
            rows.append((system, "rna", "none", "edge_auc", value, f"seed_{seed}"))
    rows.append(("single", "rna", "none", "edge_auc", 0.5, "seed_0"))
    rows.append(("elsewhere", "image", "none", "edge_auc", 0.5, "seed_0"))
    columns = ["system", "modality", "fusion", "metric", "value", "seed"]
    found = paired_differences(pd.DataFrame(rows, columns=columns)).set_index("system")
    assert found.loc["other", "mean"] == pytest.approx(0.2)
    assert found.loc["other", "half_width"] == pytest.approx(4.302653 * 0.1 / np.sqrt(3))  # t of two degrees of freedom
    assert found.loc["single", "mean"] == pytest.approx(0.2)
    assert np.isnan(found.loc["single", "half_width"])
    assert "elsewhere" not in found.index  # PETRI has no such row


def test_missing_weights_keep_their_row_with_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / "seed_0"
    folder.mkdir()
    run("pca", folder)
    paper_table.run_system("dinov2", SETTINGS, 0, {}, folder)
    write_summary(tmp_path, SYSTEMS, "versions", [0])
    summary = (tmp_path / "summary.md").read_text()
    assert "| dinov2, seed_0 | not run: no weights; pass --checkpoint DINOv2=FOLDER" in summary
    assert "published: PETRI, HepG2 |  |  |  |  | 0.278 | 0.242 | 0.628" in summary
    assert (tmp_path / "summary.png").stat().st_size > 1000


@pytest.mark.slow
def test_scores_of_a_row_do_not_depend_on_rows_scored_before(tmp_path: Path) -> None:
    mdata = SETTINGS.load(0)
    rng = np.random.default_rng(0)
    embeddings = {name: rng.normal(size=(m.n_obs, 4)) for name, m in mdata.mod.items()}
    alone = paper_table.score(Row("row", embeddings, is_shared=True), mdata)
    paper_table.score(Row("other", {"rna": rng.normal(size=(mdata["rna"].n_obs, 9))}, is_shared=False), mdata)
    pd.testing.assert_frame_equal(paper_table.score(Row("row", embeddings, is_shared=True), mdata), alone)


def test_single_modalities_score_alike_whether_or_not_they_share_a_space() -> None:
    mdata = SETTINGS.load(0)
    rng = np.random.default_rng(0)
    embeddings = {
        name: rng.normal(size=(m.n_obs, 4)) * [1, 5, 1, 1 + 9 * (name == "rna")] for name, m in mdata.mod.items()
    }
    shared, apart = (
        paper_table.score(Row("row", embeddings, is_shared=is_shared), mdata) for is_shared in (True, False)
    )
    assert set(shared["fusion"]) - set(apart["fusion"]) == {"mean_embedding"}
    of_both = shared[shared["fusion"] != "mean_embedding"]
    pd.testing.assert_frame_equal(of_both.reset_index(drop=True), apart.reset_index(drop=True))


def test_alignment_is_that_of_the_contexts_that_were_held_out() -> None:
    mdata = SETTINGS.load(0)
    names = sorted(mdata["rna"].obs["perturbation"].unique())
    held_out, trained = names[::2], names[1::2]
    places = {name: float(i) for i, name in enumerate(held_out)} | dict.fromkeys(trained, 100.0)
    rng = np.random.default_rng(0)
    embeddings = {
        name: m.obs["perturbation"].astype(str).map(places).to_numpy()[:, None] + rng.normal(0, 0.01, (m.n_obs, 2))
        for name, m in mdata.mod.items()
    }
    found = paper_table.score(Row("row", embeddings, is_shared=True, held_out=tuple(held_out)), mdata)
    values = found[found["modality"] == "image+rna"].set_index("metric")["value"]
    assert values["foscttm"] == 0
    assert abs(values["modality_share"]) < 0.01
    is_of_rna = (found["modality"] == "rna") & (found["metric"] == "context_share")
    assert found["value"][is_of_rna].item() == pytest.approx(1, abs=1e-4)
    everything = paper_table.score(Row("row", embeddings, is_shared=True), mdata)
    assert everything["value"][everything["metric"] == "foscttm"].item() > 0.1


def test_results_of_other_settings_and_wrong_arguments_are_refused(tmp_path: Path) -> None:
    SETTINGS.keep(tmp_path)
    SETTINGS.keep(tmp_path)
    with pytest.raises(SystemExit, match="holds results of other settings"):
        dataclasses.replace(SETTINGS, defaults=SETTINGS.defaults | {"mask_ratio": "0.5"}).keep(tmp_path)
    with pytest.raises(SystemExit, match="'DINOv2' is not NAME=PATH"):
        paper_table.pairs(["DINOv2"])
    assert SETTINGS.defaults["PETRI"]["gene_reads"] == "'deviations'"
    assert SETTINGS.defaults["CLIP"]["projection_dim"] == "128"


def test_arguments_of_the_screen_are_passed_on_and_wrong_ones_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        command = ["paper_table", "--seeds", "0", "--out", str(tmp_path), *arguments]
        monkeypatch.setattr("sys.argv", command)
        paper_table.main()
        screen = command[command.index("--screen") + 1]
        return json.loads((tmp_path / screen / "settings.json").read_text())["screen_arguments"]

    found = run("--screen", "weak", "--cells", "900", "--screen-argument", "well_effects=0.5", "equal_intensity=True")
    assert found == {"n_cells": 900, "well_effects": 0.5, "equal_intensity": True}
    with pytest.raises(SystemExit, match=r"\['n_wells'\]: datasets.synthetic_screen has no such argument"):
        run("--screen", "weak", "--screen-argument", "n_wells=3")
    with pytest.raises(SystemExit, match="takes numbers, True and False as values"):
        run("--screen", "weak", "--screen-argument", "well_effects=strong")
    with pytest.raises(SystemExit, match="pass --screen synthetic or weak"):
        run("--screen", "semisynthetic", "--screen-argument", "well_effects=0.5")


def test_a_system_that_fails_keeps_its_row_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(job: Job) -> Iterator[Row]:
        yield Row("empty", {"image": np.full((job.mdata["image"].n_obs, 2), np.nan)}, is_shared=False)

    monkeypatch.setitem(SYSTEMS, "petri", fails)
    monkeypatch.setattr(paper_table, "Settings", lambda **arguments: dataclasses.replace(SETTINGS))
    command = ["paper_table", "--seeds", "1", "--only", "petri", "pca", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match=r"failed: petri \(seed_100\); see summary.md"):
        paper_table.main()
    root = tmp_path / "synthetic"
    summary = (root / "summary.md").read_text()
    assert "| petri, seed_100 | not run: failed: ValueError: " in summary
    assert "| PCA of pixels and of expression | rna | none | 1 |" in summary
    assert "Traceback" in capsys.readouterr().err
    assert not list(root.glob("seed_100/petri.csv"))


def test_a_given_embedding_is_never_taken_for_a_system_of_its_name(tmp_path: Path) -> None:
    cells = SETTINGS.load(0)["rna"].n_obs
    np.savez(tmp_path / "mine.npz", rna=np.random.default_rng(0).normal(size=(cells, 3)))
    paper_table.run_given("PETRI", tmp_path / "mine.npz", SETTINGS, 0, tmp_path)
    table = pd.read_csv(tmp_path / "given_PETRI.csv")
    assert set(table["system"]) == {"PETRI (given)"}
    assert (table.loc[table["metric"] == "edge_auc", "n"] > 0).all()


def test_a_given_file_that_changed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "seed_0").mkdir()
    (tmp_path / "seed_0" / "given_mine.csv").touch()
    path = tmp_path / "mine.npz"
    path.write_bytes(b"one")
    paper_table.remember_files(tmp_path, {"given_mine": path})
    paper_table.remember_files(tmp_path, {"given_mine": path})
    path.write_bytes(b"two")
    with pytest.raises(SystemExit, match=r"delete seed_\*/given_mine.csv"):
        paper_table.remember_files(tmp_path, {"given_mine": path})


def test_a_given_embedding_of_other_cells_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "given.npz", image=np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"3 rows of 'image', but it has 300 cells"):
        paper_table.run_given("mine", tmp_path / "given.npz", SETTINGS, 0, tmp_path)
    assert not list(tmp_path.glob("given_mine*"))


def test_results_of_other_weights_are_not_taken_for_those_asked_for(tmp_path: Path) -> None:
    paper_table.remember_files(tmp_path, {"DINOv2": tmp_path / "small"})
    paper_table.remember_files(tmp_path, {"DINOv2": tmp_path / "base"})  # no result yet
    (tmp_path / "seed_100").mkdir()
    (tmp_path / "seed_100" / "dinov2.csv").touch()
    paper_table.remember_files(tmp_path, {"DINOv2": tmp_path / "base", "scGPT": tmp_path})
    paper_table.remember_files(tmp_path, {})
    with pytest.raises(SystemExit, match=r"DINOv2 of .*base, found .*small.*delete seed_\*/dinov2.csv"):
        paper_table.remember_files(tmp_path, {"DINOv2": tmp_path / "small"})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*sorted(set(SYSTEMS) - NOT_RUN), *ABLATIONS])
def test_every_system_gives_finite_scores(name: str, tmp_path: Path) -> None:
    needed = {"cross_modal_autoencoder": "mae", "petri_embeddings": "petri", "propensity": "pca"}
    if name in needed:
        run(needed[name], tmp_path)
    table = run(name, tmp_path)
    assert np.isfinite(table["value"]).all()
    of_one = {"pca_scaled", "random_projection"}
    assert ({"rna"} if name in of_one else {"image", "rna", "image+rna"}) == set(table["modality"])


def test_permuted_contexts_keep_how_many_cells_each_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = {}

    def remember(row: Row, mdata: object) -> pd.DataFrame:
        seen.update({name: m.obs for name, m in mdata.mod.items()})  # type: ignore[attr-defined]
        return pd.DataFrame({"value": [0.0]})

    monkeypatch.setattr(paper_table, "score", remember)
    run("petri_permuted", tmp_path)
    for obs in seen.values():
        assert (obs[PERMUTED_KEY].to_numpy() != obs["perturbation"].to_numpy()).mean() > 0.5
        assert sorted(obs[PERMUTED_KEY]) == sorted(obs["perturbation"])


# Perturb-Multi, on tiny files of the same layout


@pytest.fixture
def perturb_multi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> paper_table.Settings:
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "user")
    monkeypatch.setenv("PETRI_SCVI_CACHE", str(tmp_path / "cache"))
    write_cache(tmp_path / "cache", monkeypatch)
    edges = b"entity1,entity2\nPTEN,MTOR\n"
    (tmp_path / "cache" / "StringDB.txt").write_bytes(edges)
    known = dataclasses.replace(_stringdb.STRINGDB, sha256=hashlib.sha256(edges).hexdigest())
    monkeypatch.setattr(_stringdb, "STRINGDB", known)
    network = {**SETTINGS.network, "expression_likelihood": "normal"}
    arguments = {"chunks": ["aa", "ab"], "channels": ["Alb", "TOMM20"]}
    return dataclasses.replace(SETTINGS, screen="perturb_multi", screen_arguments=arguments, network=network)


def test_perturb_multi_has_a_row_per_measurement_and_mouse_edges(perturb_multi: paper_table.Settings) -> None:
    mdata = perturb_multi.load(100)
    image, rna = mdata["image"], mdata["rna"]
    assert mdata.n_obs == image.n_obs + rna.n_obs
    assert [n.removeprefix("image:") for n in image.obs_names] == [n.removeprefix("rna:") for n in rna.obs_names]
    assert (image.obs["guide"].to_numpy() == rna.obs["guide"].to_numpy()).all()
    assert mdata.uns["known_edges"].to_numpy().tolist() == [["Mtor", "Pten"]]
    assert list(image.uns["channel_names"]) == ["Alb", "TOMM20"]


@pytest.mark.filterwarnings("ignore")
def test_perturb_multi_is_trained_with_squared_errors_and_not_by_what_needs_counts(
    perturb_multi: paper_table.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Any] = []

    def remember(row: Row, mdata: object) -> pd.DataFrame:
        assert all(np.isfinite(embedding).all() for embedding in row.embeddings.values())
        return pd.DataFrame({"value": [0.0]})

    fit = Job.fit

    def remember_model(job: Job, model: Any, **sizes: int) -> None:
        models.append(model)
        fit(job, model, **sizes)

    monkeypatch.setattr(Job, "fit", remember_model)
    monkeypatch.setattr(paper_table, "score", remember)
    for name in ("petri", "clip", "pca", "scvi"):
        paper_table.run_system(name, perturb_multi, 100, {}, tmp_path)
    assert [model.module.modality("rna").expression_likelihood for model in models] == ["normal"] * 2
    assert (tmp_path / "scvi.not_run").read_text().startswith("it models counts")
    assert {path.stem for path in tmp_path.glob("*.csv")} == {"petri", "clip", "pca"}


def test_what_is_missing_of_perturb_multi_is_listed_and_not_downloaded_unasked(
    perturb_multi: paper_table.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    prepare_perturb_multi(perturb_multi.screen_arguments, None, may_download=False)
    assert "nothing has to be downloaded" in capsys.readouterr().out
    missing = {"chunks": ["aa", "bp"], "channels": None}
    with pytest.raises(SystemExit, match=r"(?s)chunk_bp\.tar.*--download.*--cache"):
        prepare_perturb_multi(missing, None, may_download=False)
    assert "1 file (CC-BY-4.0), about 8,930,000,000 bytes (8.93 GB), to" in capsys.readouterr().out
    monkeypatch.setattr(_files, "free_space", lambda _: 5 * 10**9)
    with pytest.raises(SystemExit, match="needs 8.93 GB in .*, which has 5.00 GB free"):
        prepare_perturb_multi(missing, None, may_download=True)
