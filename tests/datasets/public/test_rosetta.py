"""The reader of Rosetta on tiny files of the published layout."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from petri_scvi import PETRI, tl
from petri_scvi.datasets import rosetta
from petri_scvi.datasets.cache._registry_public import ROSETTA
from petri_scvi.datasets.public import _rosetta
from tests import tiny_rosetta

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

    from .conftest import Server

KINDS = {"image": "features", "rna": "continuous"}
SMALL: dict[str, Any] = {"embed_dim": 16, "n_heads": 2, "n_latent_tokens": 2}
SMALL |= {"expression_encoder_depth": 1, "expression_decoder_dim": 16, "set_transformer_depth": 1}


@pytest.fixture
def folder(tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that has TA-ORF."""
    monkeypatch.setitem(ROSETTA, "TA-ORF", tuple(map(tiny_rosetta.unverified, ROSETTA["TA-ORF"])))
    tiny_rosetta.write_ta_orf(tmp_path)
    return tmp_path


@pytest.fixture
def mdata(folder: Path) -> MuData:
    return rosetta("TA-ORF", cache_dir=folder)


def rewrite(folder: Path, which: str, modality: int, table: pd.DataFrame) -> None:
    path = folder / ROSETTA[which][modality].file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    path.with_name(path.name + ".sha256.json").unlink(missing_ok=True)


def test_features_and_probes_are_those_of_the_files(mdata: MuData) -> None:
    image, rna = tiny_rosetta.tables()
    assert mdata["image"].shape == (len(image), tiny_rosetta.N_FEATURES)
    assert mdata["rna"].shape == (len(rna), tiny_rosetta.N_PROBES)
    assert mdata["rna"].var_names[1] == "200801_s_at"
    np.testing.assert_allclose(mdata["rna"].X, rna.iloc[:, : tiny_rosetta.N_PROBES], rtol=1e-5)
    expected = image.filter(like="AreaShape").to_numpy(np.float32)
    expected[~np.isfinite(expected)] = np.nan
    np.testing.assert_allclose(mdata["image"].X, expected, rtol=1e-5)
    assert np.isnan(mdata["image"].X).sum() == 2


def test_constructs_are_guides_of_genes_and_plates_are_replicates(mdata: MuData) -> None:
    for name in ("image", "rna"):
        obs = mdata[name].obs
        assert set(obs["perturbation"]) == set(obs["target_gene"]) == {*tiny_rosetta.GENES, "non-targeting"}
        assert obs["is_control"].sum() == tiny_rosetta.N_PLATES * tiny_rosetta.N_CONTROLS
        assert (obs["is_control"] == (obs["perturbation"] == "non-targeting")).all()
        assert obs.groupby("target_gene", observed=True)["guide"].nunique()["TP53"] == 2
        assert obs["replicate"].nunique() == tiny_rosetta.N_PLATES
        assert obs["well"].is_unique
        assert set(obs["time_h"]) == {72}
    assert mdata["image"].obs["guide"].iloc[1] == "ccsbBroad304_BRDN02"
    assert mdata["rna"].obs["replicate"].iloc[0] == "TA.OE005_U2OS_72H_X1_B15"
    about = mdata.uns["rosetta"]
    assert about["n_perturbations"] == {"image": 6, "rna": 6, "both": 6}
    assert about["n_guides"] == {"image": 12, "rna": 12, "both": 6}


def test_it_trains_embeds_and_recovers_pathways(mdata: MuData) -> None:
    PETRI.setup_mudata(mdata, modalities=KINDS)
    model = PETRI(mdata, **SMALL)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    mdata.obsm["X_petri"] = model.get_latent_representation()
    genes = tiny_rosetta.GENES
    edges = pd.DataFrame({"entity1": genes[::2], "entity2": genes[1::2]})
    with pytest.warns(UserWarning, match="12 of 19 guides have cells in some modalities only"):
        scores = tl.score_screen(mdata, ["X_petri"], edges=edges, n_bootstrap=0, progress=False)
    assert np.isfinite(scores["value"]).all()
    assert {"image", "rna", "image+rna"} == set(scores["modality"])
    assert (scores.loc[scores["metric"] == "edge_auc", "value"] > 0.9).all()
    assert set(scores.loc[scores["metric"] == "guide_consistency", "n"]) == {len(genes)}


def test_alleles_are_guides_of_their_gene_and_compounds_have_doses(
    tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for which in ("LUAD", "CDRP-bio"):
        monkeypatch.setitem(ROSETTA, which, tuple(map(tiny_rosetta.unverified, ROSETTA[which])))
    alleles = ["TP53_p.R248Q", "TP53_WT.c", "ARAF_p.S214C, p.D429A", "negcon"]
    features = {"Cells_AreaShape_Area": [1.0, 2, 3, 4], "Nuclei_AreaShape_Area": [4.0, 3, 2, 1]}
    plates = {"Metadata_Plate": [1] * 4, "Metadata_Well": list("abcd")}
    rewrite(tmp_path, "LUAD", 0, pd.DataFrame({"x_mutation_status": alleles, **plates, **features}))
    probes = {"200814_at": [0.1, 0.2, 0.3, 0.4], "det_plate": ["p"] * 4}
    rewrite(tmp_path, "LUAD", 1, pd.DataFrame({"allele": alleles, **probes, "det_well": list("abcd")}))
    luad = rosetta("LUAD", cache_dir=tmp_path)
    assert luad["image"].obs["perturbation"].tolist() == ["TP53", "TP53", "ARAF", "non-targeting"]
    assert luad["rna"].obs["guide"].tolist() == alleles
    assert set(luad["rna"].obs["cell_line"]) == {"A549"}

    doses = [f"BRD-K18438502-001-02-{lot}_{dose}" for lot, dose in ((6, 10.0), (6, 5.0), (7, 10.0))] + ["negcon"]
    cp = {"Metadata_mmoles_per_liter2": [10.0, 5.0, 10.0, 0.0], "Metadata_target": ["DRD2"] * 3 + [None]}
    rewrite(tmp_path, "CDRP-bio", 0, pd.DataFrame({"Metadata_Sample_Dose": doses, **plates, **cp, **features}))
    rewrite(
        tmp_path, "CDRP-bio", 1, pd.DataFrame({"pert_sample_dose": doses, **probes, "pert_dose": [10, 5, 10, -666]})
    )
    drugs = rosetta("CDRP-bio", cache_dir=tmp_path)
    for name, hours in (("image", 48), ("rna", 6)):
        obs = drugs[name].obs
        assert obs["perturbation"].tolist() == ["BRD-K18438502"] * 3 + ["non-targeting"]
        assert obs["dose_um"].tolist()[:3] == [10, 5, 10]
        assert set(obs["time_h"]) == {hours}
    assert drugs.uns["rosetta"]["n_guides"]["both"] == 3


def test_wells_without_a_label_are_counted_and_plates_without_controls_are_named(folder: Path) -> None:
    image, rna = tiny_rosetta.tables()
    image.loc[0, "Metadata_broad_sample"] = None
    image.loc[1, "Metadata_gene_name"] = None
    is_first = rna["det_plate"] == rna["det_plate"].iloc[0]
    rewrite(folder, "TA-ORF", 0, image)
    rewrite(folder, "TA-ORF", 1, rna[~(is_first & (rna["pert_id"] == "negcon"))])
    with pytest.warns(UserWarning, match="wells|plates") as raised:
        mdata = rosetta("TA-ORF", cache_dir=folder)
    said = "\n".join(str(warning.message) for warning in raised)
    assert "1 of 72 wells" in said
    assert "1 wells of 'image' have no 'Metadata_gene_name'" in said
    assert "1 of 4 plates of 'rna' have no negative control, such as ['TA.OE005_U2OS_72H_X1_B15']" in said
    assert mdata["image"].n_obs == 71
    mdata["rna"].obsm["X"] = np.asarray(mdata["rna"].X)
    with pytest.raises(ValueError, match="1 of 4 replicates have no control cell"):
        tl.center_scale(mdata["rna"], "X")
    tl.center_scale(mdata["rna"], "X", replicate_key="cell_line")  # what the warning advises


def test_a_file_of_another_layout_is_refused(folder: Path) -> None:
    image, _ = tiny_rosetta.tables()
    rewrite(folder, "TA-ORF", 0, image.drop(columns="Metadata_Plate"))
    with pytest.raises(KeyError, match=r"no column \['Metadata_Plate'\]; besides 14 features, it has"):
        rosetta(cache_dir=folder)
    rewrite(folder, "TA-ORF", 0, image.drop(columns=["Metadata_gene_name", "Metadata_pert_name"]))
    with pytest.raises(KeyError, match="one of.*Metadata_gene_name"):
        rosetta(cache_dir=folder)
    rewrite(folder, "TA-ORF", 0, image.assign(control_type=None).replace({"Metadata_broad_sample": {"negcon": "DMSO"}}))
    with pytest.raises(ValueError, match=r"no well labelled 'negcon'.*most frequent labels are \['DMSO'"):
        rosetta(cache_dir=folder)
    with pytest.raises(ValueError, match="'TA-ORF', 'LUAD', 'CDRP-bio'"):
        rosetta("CDRP")  # type: ignore[arg-type]


def test_both_files_are_downloaded_and_their_md5_is_compared(
    tmp_path: Path, user_cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("petri_scvi.datasets.cache._download.BLOCK_BYTES", 2**16)
    tiny_rosetta.write_ta_orf(tmp_path / "published")
    entries = []
    for i, entry in enumerate(ROSETTA["TA-ORF"]):
        content = (tmp_path / "published" / entry.file_name).read_bytes()
        server.files[str(i)] = content
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        entries.append(dataclasses.replace(entry, url=server.url(str(i)), n_bytes=len(content), md5=md5))
    monkeypatch.setitem(_rosetta.ROSETTA, "TA-ORF", tuple(entries))
    assert rosetta(cache_dir=tmp_path / "cache", progress=False)["rna"].n_vars == tiny_rosetta.N_PROBES
    assert len(server.requests) == 2
    entries[1] = dataclasses.replace(entries[1], md5="0" * 32)
    monkeypatch.setitem(_rosetta.ROSETTA, "TA-ORF", tuple(entries))
    with pytest.raises(ValueError, match="MD5 hash mismatch"):
        rosetta(cache_dir=tmp_path / "other", progress=False)


def test_addresses_and_lengths_are_those_published() -> None:
    assert sum(entry.n_bytes for entry in ROSETTA["TA-ORF"]) == 3_128_701
    for entries in ROSETTA.values():
        assert [entry.url.split("/")[-2] for entry in entries if entry.url] == ["CellPainting", "L1000"]
        assert all(entry.license == "CC0-1.0" and entry.why_no_sha256 for entry in entries)
