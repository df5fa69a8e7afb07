"""The file of the explorer holds the right numbers, and nothing else than it may."""

from __future__ import annotations

import base64
import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from mudata import MuData
from PIL import Image

from petri_scvi import pages, pp, tl
from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi.pages.contents._cells import spread_evenly
from petri_scvi.pages.contents._map import umap_of
from petri_scvi.pages.contents._payload import quantised

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def page(mapped: MuData, read_page: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The page of a screen on a map, as a file."""
    return read_page(pages.explorer(mapped, path=tmp_path_factory.mktemp("p") / "explorer.html", progress=False))


def write(mdata: MuData | AnnData, path: Path, **changes: Any) -> Path:
    return pages.explorer(mdata, path=path / "explorer.html", progress=False, **changes)


def copied(mdata: MuData) -> MuData:
    with columns_stay_in_modalities():
        new = MuData({name: part.copy() for name, part in mdata.mod.items()})
    for slot in ("X_umap", "X_petri", "X_sae"):
        new.obsm[slot] = mdata.obsm[slot]
    return new


def test_cells_keep_their_place_name_and_labels(page: Any, mapped: MuData) -> None:
    meta = page.meta
    points = np.stack([page.array(meta["cells"][axis], "u2") for axis in "xy"], axis=1).astype(float)
    expected = mapped.obsm["X_umap"]
    scale = 65535 / (expected.max(axis=0) - expected.min(axis=0)).max()
    np.testing.assert_allclose(points - points[0], scale * (expected - expected[0]), atol=1.01)
    assert page.words(meta["cells"]["names"]) == list(mapped.obs_names)
    for column in ("perturbation", "guide", "batch"):
        labels = np.concatenate([part.obs[column].astype(str) for part in mapped.mod.values()])
        assert page.values(f"obs:{column}").tolist() == labels.tolist()
    assert page.values("modality").tolist() == ["image"] * mapped["image"].n_obs + ["rna"] * mapped["rna"].n_obs
    assert [kind["n"] for kind in meta["kinds"]] == [part.n_obs for part in mapped.mod.values()]


def test_numbers_are_those_of_obs_features_and_genes_to_one_part_in_254(page: Any, mapped: MuData) -> None:
    n = mapped["image"].n_obs
    effect = np.concatenate([part.obs["true_effect"] for part in mapped.mod.values()])
    found = page.values("obs:true_effect")
    step = page.columns["obs:true_effect"]["step"]
    np.testing.assert_allclose(found, effect, atol=step / 2 + 1e-6)
    assert (found[effect == 0] == 0).all()
    feature = page.values("feature:droplet_number")
    assert np.isnan(feature[n:]).all()
    assert np.corrcoef(feature[:n], mapped["image"].obsm["image_features"]["droplet_number"])[0, 1] > 0.9999
    gene = page.values("gene:GENE0003")
    counts = mapped["rna"].X.toarray()
    totals = counts.sum(axis=1, keepdims=True)
    levels = np.log1p(counts * np.median(totals) / totals)[:, list(mapped["rna"].var_names).index("GENE0003")]
    assert np.isnan(gene[:n]).all()
    assert np.corrcoef(gene[n:], levels)[0, 1] > 0.9999
    assert (gene[n:][levels == 0] == 0).all()


def test_crops_are_those_of_their_cells(page: Any, mapped: MuData) -> None:
    crops = page.meta["crops"]
    cells = page.array(crops["cells"], "u4")
    assert sorted(cells) == list(range(mapped["image"].n_obs))
    assert crops["n"] == crops["total"] == len(cells)
    images = mapped["image"].obsm["single_cell_images"]
    for channel in range(5):
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(page.elements[f"s0c{channel}"]))).convert("L"))
        for slot in (0, 7, 100):
            x, y = 12 * (slot % crops["per_row"]), 12 * (slot // crops["per_row"])
            shown, true = sheet[y : y + 12, x : x + 12].astype(float), images[cells[slot], channel].astype(float)
            assert np.corrcoef(shown.ravel(), true.ravel())[0, 1] > 0.8
        assert 0 <= crops["channels"][channel]["low"] < crops["channels"][channel]["high"] <= 255
    groups = page.values("obs:perturbation")[cells]
    assert (pd.Series(groups).ne(pd.Series(groups).shift()).sum()) == len(set(groups))  # each lies in one piece


def test_the_page_needs_no_network_and_may_not_use_one(page: Any) -> None:
    policy = page.text.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    rules = dict(rule.split(maxsplit=1) for rule in policy.replace("\n", " ").split("; "))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    assert rules["img-src"] == "data: blob:"
    head = page.text.split("<script", 1)[0]
    assert "http:" not in head
    assert "https:" not in head
    for attribute in (" src=", "@import", "url("):
        assert attribute not in head
    assert "Permission is hereby granted" in page.elements["licences"]


def test_large_screens_are_sampled_by_perturbation_and_the_page_says_so(
    mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    page = read_page(write(mapped, tmp_path, max_cells=600))
    assert page.meta["cells"]["n"] == 600
    shown = pd.Series(page.values("obs:perturbation")).groupby(page.values("modality")).value_counts()
    whole = pd.concat({name: part.obs["perturbation"].astype(str) for name, part in mapped.mod.items()})
    total = whole.groupby(level=0).value_counts()
    largest = shown.max()
    assert all(n == total[group] or n >= largest - 1 for group, n in shown.items())
    assert [kind["total"] for kind in page.meta["kinds"]] == [part.n_obs for part in mapped.mod.values()]


@pytest.mark.slow
def test_crops_that_do_not_fit_are_sampled_by_perturbation(
    make_mapped: Callable[..., MuData], read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    mdata = make_mapped(image_size=64)
    path = write(mdata, tmp_path, max_megabytes=1, genes=[])
    page = read_page(path)
    crops = page.meta["crops"]
    assert 50 < crops["n"] < crops["total"] == mdata["image"].n_obs
    assert path.stat().st_size < 1e6
    counts = pd.Series(page.values("obs:perturbation")[page.array(crops["cells"], "u4")]).value_counts()
    total = mdata["image"].obs["perturbation"].value_counts()
    assert all(n == total[name] or n >= counts.max() - 1 for name, n in counts.items())


def test_genes_that_do_not_fit_are_left_out_by_name(
    make_mapped: Callable[..., MuData], read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    mdata = make_mapped(n_cells=4000)
    page = read_page(write(mdata, tmp_path, max_megabytes=0.5))
    kept = [column["label"] for column in page.meta["columns"] if column["group"] == "gene"]
    others = page.words(page.meta["other_genes"])
    assert sorted(kept + others) == sorted(mdata["rna"].var_names)
    assert others
    (part,) = (part for part in page.meta["left_out"] if part["group"] == "gene")
    assert part["n"] == len(others)
    # Targets come first.
    assert set(kept[:5]) <= set(mdata["rna"].obs["perturbation"].cat.categories)


@pytest.mark.parametrize("room", [40, 0.5], ids=["all crops fit", "some do not"])
def test_every_channel_of_all_crops_is_measured(
    mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path, room: float
) -> None:
    mdata = copied(mapped)
    image = mdata["image"]
    crops = np.array(image.obsm["single_cell_images"], dtype=np.float32)
    crops[3, 2] = np.nan
    crops[4, 2, :6] = np.nan
    image.obsm["single_cell_images"] = crops
    page = read_page(write(mdata, tmp_path, max_megabytes=room, genes=[]))
    assert (page.meta["crops"]["n"] < image.n_obs) == (room < 1)
    for i, channel in enumerate(image.uns["channel_names"]):
        column = page.columns[f"feature:{channel}, mean intensity"]
        found = page.values(column["id"])
        known = (~np.isnan(crops[:, i])).sum(axis=(1, 2)) > 0
        assert (np.isfinite(found) == [*known, *[False] * mdata["rna"].n_obs]).all()
        expected = np.nanmean(crops[known, i], axis=(1, 2), dtype=np.float64)
        within = np.clip(expected, column["low"], column["low"] + 254 * column["step"])
        np.testing.assert_allclose(found[: len(known)][known], within, atol=0.51 * column["step"])


def test_only_channels_that_were_chosen_are_measured(
    mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    page = read_page(write(mapped, tmp_path, channels=["lipid_droplets"]))
    assert [column["label"] for column in page.meta["columns"] if "channel" in column] == [
        "lipid_droplets, mean intensity"
    ]


def test_large_crops_are_averaged(mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path) -> None:
    page = read_page(write(mapped, tmp_path, crop_size=4))
    crops = page.meta["crops"]
    assert (crops["size"], crops["original"]) == (4, [12, 12])
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(page.elements["s0c1"]))).convert("L")).astype(float)
    cells = page.array(crops["cells"], "u4")
    n = 64
    shown = np.array([sheet[:4, 4 * i : 4 * i + 4] for i in range(n)])
    means = mapped["image"].obsm["single_cell_images"][cells[:n], 1].reshape(n, 4, 3, 4, 3).mean(axis=(2, 4))
    assert np.corrcoef(shown.ravel(), means.ravel())[0, 1] > 0.97


def test_genes_up_and_down_are_those_that_the_screen_moves(page: Any, mapped: MuData) -> None:
    effects = mapped.uns["synthetic_screen"]["perturbation_gene_effects"]
    signs = []
    for name, ends in page.meta["changed_genes"].items():
        assert {"up", "down", "own"} == set(ends)
        for end, sign in (("up", 1), ("down", -1)):
            signs += [sign * effects.loc[gene, name] for gene, _, q in ends[end] if q < 0.2]
    assert len(signs) > 20
    assert np.mean(np.array(signs) > 0) > 0.9


def test_a_screen_of_one_modality_and_an_anndata_have_a_page(
    mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    image = mapped["image"].copy()
    image.obsm["X_umap"] = mapped.obsm["X_umap"][: image.n_obs]
    page = read_page(write(image, tmp_path))
    assert page.meta["cells"]["n"] == page.meta["crops"]["n"] == image.n_obs
    assert "changed_genes" not in page.meta
    rna = mapped["rna"].copy()
    rna.obsm["X_umap"] = mapped.obsm["X_umap"][image.n_obs :]
    page = read_page(write(rna, tmp_path))
    assert "crops" not in page.meta
    assert "gene:GENE0003" in page.columns


@pytest.mark.slow
def test_modalities_of_other_kinds_and_names_have_a_page(
    mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    table = mapped["image"].obsm["image_features"]
    table = pd.DataFrame(table) if not isinstance(table, pd.DataFrame) else table
    morphology = AnnData(obs=mapped["image"].obs, obsm={"table": table})
    extra = AnnData(obs=mapped["image"].obs.set_axis([f"extra_{name}" for name in mapped["image"].obs_names]))
    with columns_stay_in_modalities():
        mdata = MuData({"morphology": morphology, "protein": mapped["rna"], "extra": extra})
    n = mapped["image"].n_obs
    for slot in ("X_umap", "X_petri"):
        mdata.obsm[slot] = np.concatenate([mapped.obsm[slot], mapped.obsm[slot][:n]])
    names = {"modalities": ("morphology", "protein"), "features_key": "table"}
    page = read_page(write(mdata, tmp_path, **names))
    assert [(kind["name"], kind["n"]) for kind in page.meta["kinds"]] == [
        ("morphology", n),
        ("protein", mapped["rna"].n_obs),
        ("extra", n),
    ]
    assert "crops" not in page.meta
    assert np.isfinite(page.values("feature:droplet_number")[:n]).all()
    gene = page.values("gene:GENE0003")
    assert np.isfinite(gene).sum() == mapped["rna"].n_obs
    for wrong, word in [(("morfology", "protein"), "'morfology'"), (("morphology", "proteins"), "'proteins'")]:
        with pytest.raises(KeyError, match=f"modality={word} is not in mdata.mod; it has .*'morphology'"):
            write(mdata, tmp_path, modalities=wrong)


@pytest.mark.slow
def test_a_missing_map_is_made_from_the_embedding_and_not_stored(
    mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    mdata = copied(mapped)
    del mdata.obsm["X_umap"]
    page = read_page(write(mdata, tmp_path, genes=[], max_cells=300))
    assert page.meta["cells"]["map"] == "UMAP of X_petri"
    assert "X_umap" not in mdata.obsm
    x = page.array(page.meta["cells"]["x"], "u2").astype(float)
    labels = page.values("obs:perturbation")
    within = pd.Series(x).groupby(labels).std().mean()
    shuffled = pd.Series(x).groupby(np.random.default_rng(0).permutation(labels)).std().mean()
    assert within < 0.95 * shuffled  # perturbations are apart in the embedding


@pytest.mark.slow
def test_the_map_is_the_umap_of_scanpy_and_its_steps_are_told() -> None:
    vectors = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    steps: list[tuple[float, str]] = []
    points = umap_of(vectors, 3, lambda share, what: steps.append((share, what)))
    assert steps == [(0.0, "Finding neighbours of 80 cells"), (0.3, "Making a UMAP of 80 cells")]
    table = AnnData(vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a seed makes umap-learn run on one core
        sc.pp.neighbors(table, use_rep="X", random_state=3)
        sc.tl.umap(table, random_state=3)
    np.testing.assert_array_equal(points, table.obsm["X_umap"])


def test_cells_that_changed_since_the_last_update_are_refused(mapped: MuData, tmp_path: Path) -> None:
    mdata = copied(mapped)
    mdata.mod["rna"] = mdata["rna"][::-1].copy()
    with pytest.raises(ValueError, match=r"Call mdata\.update\(\) first"):
        write(mdata, tmp_path)


def test_the_strongest_perturbations_of_the_embedding_have_a_colour(
    mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    mdata = copied(mapped)
    tl.perturbation_strength(mdata, "X_petri", progress=False)
    table = mdata.uns["petri_scvi"]["perturbation_strength_X_petri"]["table"]
    strongest = table.groupby("perturbation")["energy_distance"].max().sort_values(ascending=False).index[:6]
    assert read_page(write(mdata, tmp_path)).meta["start"]["picked"][1:] == list(strongest)


def test_rows_in_another_order_keep_their_genes(
    mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    mdata = copied(mapped)
    before = read_page(write(mdata, tmp_path)).values("gene:GENE0001")
    names = mdata.obs_names
    turned = pp.build_mudata(image=mdata["image"].copy(), rna=mdata["rna"][::-1].copy())
    for key in ("X_petri", "X_umap"):
        turned.obsm[key] = mdata.obsm[key][names.get_indexer(turned.obs_names)]
    after = read_page(write(turned, tmp_path)).values("gene:GENE0001")
    np.testing.assert_allclose(after, before[names.get_indexer(turned.obs_names)], atol=0.05)


def test_what_cannot_be_shown_is_refused_with_the_way_out(mapped: MuData, tmp_path: Path) -> None:
    mdata = copied(mapped)
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        write(mdata, tmp_path / "nowhere")
    with pytest.raises(KeyError, match="color='size' is not among"):
        write(mdata, tmp_path, color="size")
    with pytest.raises(KeyError, match="'drug' is not a column of obs"):
        write(mdata, tmp_path, perturbation_key="drug")
    with pytest.raises(ValueError, match="control=None if there are none"):
        write(mdata, tmp_path, control="dmso")
    write(mdata, tmp_path, control=None, genes=[])
    with pytest.raises(KeyError, match=r"genes=\['no'\] are not in var_names"):
        write(mdata, tmp_path, genes=["GENE0001", "no"])
    mdata["rna"].X = mdata["rna"].X * 0.5
    with pytest.raises(ValueError, match="is_normalized=True"):
        write(mdata, tmp_path)
    write(mdata, tmp_path, is_normalized=True)
    del mdata.obsm["X_umap"], mdata.obsm["X_petri"]
    with pytest.raises(KeyError, match=r"mdata.obsm\['X_petri'\] = model.get_latent_representation"):
        write(mdata, tmp_path)
    for part in mdata.mod.values():
        part.obsm["X_petri"] = np.zeros((part.n_obs, 3), dtype=np.float32)
    with pytest.raises(ValueError, match=r"no common map. Show one modality with mdata\['image'\]"):
        write(mdata, tmp_path)


def test_a_map_of_another_embedding_is_pointed_out(mapped: MuData, tmp_path: Path) -> None:
    mdata = copied(mapped)
    mdata.uns["neighbors"] = {"params": {"use_rep": "X_pca"}}
    with pytest.warns(UserWarning, match="made from 'X_pca', not from key='X_petri'"):
        write(mdata, tmp_path, genes=[])


def test_cells_without_a_place_are_left_out_and_counted(
    mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    mdata = copied(mapped)
    mdata.obsm["X_umap"] = mdata.obsm["X_umap"].copy()
    mdata.obsm["X_umap"][:3] = np.nan
    with pytest.warns(UserWarning, match="3 cells are NaN or infinite"):
        page = read_page(write(mdata, tmp_path, genes=[]))
    assert page.words(page.meta["cells"]["names"]) == list(mdata.obs_names[3:])


def test_groups_share_a_sample_evenly_and_small_ones_are_kept_whole() -> None:
    groups = np.repeat([0, 1, 2], [1000, 5, 100])
    rows = spread_evenly(groups, 65, np.random.default_rng(0))
    assert np.bincount(groups[rows]).tolist() == [30, 5, 30]
    assert (np.diff(rows) > 0).all()
    assert spread_evenly(groups, 5000, np.random.default_rng(0)).tolist() == list(range(1105))


def test_whole_numbers_zeros_and_missing_values_survive_one_byte() -> None:
    codes, meaning = quantised(np.array([3.0, 250.0, np.nan, 7.0]))
    assert (codes.tolist(), meaning) == ([0, 247, 255, 4], {"low": 3.0, "step": 1.0})
    values = np.concatenate([np.zeros(5000), np.random.default_rng(0).exponential(size=5000), [1e6]])
    codes, meaning = quantised(values)
    assert (codes[:5000] == 0).all()
    assert codes[-1] == 254
    assert meaning["low"] == 0
    assert 0.01 < meaning["step"] < 0.1
    codes, meaning = quantised(np.full(3, np.nan))
    assert codes.tolist() == [255] * 3


def test_the_own_gene_of_a_perturbation_is_compared_with_controls_if_it_was_measured(
    make_mapped: Callable[..., MuData], read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    mdata = make_mapped()
    rna = mdata["rna"]
    for part in mdata.mod.values():  # called otherwise than its gene
        part.obs["perturbation"] = part.obs["perturbation"].cat.rename_categories({"TARGET03": "TARGET03 knock-down"})
    names = rna.var_names.to_series()
    rna.var_names = names.replace("TARGET02", "another").to_numpy()
    changed = read_page(write(mdata, tmp_path)).meta["changed_genes"]
    counts = rna.X.toarray()
    totals = counts.sum(axis=1, keepdims=True)
    levels = np.log2(1 + counts * np.median(totals) / totals)
    label = rna.obs["perturbation"].astype(str).to_numpy()
    assert changed["TARGET02"]["own"] is None
    for name, gene in (("TARGET01", "TARGET01"), ("TARGET03 knock-down", "TARGET03")):
        here, controls = label == name, label == "non-targeting"
        column = list(names).index(gene)
        found = changed[name]["own"]
        assert found[0] == gene
        assert found[1] == pytest.approx(levels[here, column].mean() - levels[controls, column].mean(), abs=1e-4)
        assert 0 <= found[2] <= 1
        shares = [(counts[rows, column] > 0).mean() for rows in (here, controls)]
        np.testing.assert_allclose(found[3:], shares, atol=1e-5)


def test_genes_of_a_perturbation_are_ordered_by_the_number_that_is_shown(page: Any) -> None:
    for ends in page.meta["changed_genes"].values():
        for end in ("up", "down"):
            sizes = [abs(change) for _, change, _ in ends[end]]
            assert sizes == sorted(sizes, reverse=True)


def test_known_truth_and_repeated_labels_are_marked(page: Any) -> None:
    truth = {column["label"] for column in page.columns.values() if column.get("is_truth")}
    assert truth == {"true_is_responder", "true_effect", "true_cell_cycle", "true_cell_cycle_phase"}
    assert [name for name, column in page.columns.items() if column.get("is_repeated")] == ["obs:target_gene"]


def test_a_page_is_called_after_its_screen_and_embedding(
    page: Any, mapped: MuData, read_page: Callable[[Path], Any], tmp_path: Path
) -> None:
    assert page.meta["title"] == "Synthetic screen, X_petri"
    mdata = copied(mapped)
    assert read_page(write(mdata, tmp_path, genes=[])).meta["title"] == "image and rna, X_petri"
    assert read_page(write(mdata, tmp_path, genes=[], title="Plate 7")).meta["title"] == "Plate 7"
