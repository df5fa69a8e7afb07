from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData, read_h5mu
from scipy import sparse

from petri_scvi.pp import match_contexts

if TYPE_CHECKING:
    from pathlib import Path

IMAGE_LABELS = ["nontargeting", "TOMM20", "TOMM20 ", "MARCH8", "WDR1", "nontargeting"]
RNA_LABELS = ["non-targeting", "TOMM20", "MARCHF8", "AARS", "AARS"]
CONTROLS = {"image": "nontargeting", "rna": "non-targeting"}


def make_image(labels: list[str] = IMAGE_LABELS, key: str = "target_gene") -> AnnData:
    names = [f"cell{i}" for i in range(len(labels))]
    images = np.arange(len(labels) * 4, dtype=np.uint8).reshape(-1, 1, 2, 2)
    obs = pd.DataFrame({key: pd.Categorical(labels), "well": 1}, index=names)
    return AnnData(obs=obs, obsm={"single_cell_images": images})


def make_rna(labels: list[str] = RNA_LABELS, key: str = "target_gene") -> AnnData:
    names = [f"cell{i}" for i in range(len(labels))]
    counts = sparse.csr_matrix(np.arange(len(labels) * 3.0).reshape(-1, 3))
    return AnnData(counts, obs=pd.DataFrame({key: labels}, index=names))


def match(image: AnnData | None = None, rna: AnnData | None = None, **changes: Any) -> Any:
    """Most of these screens have contexts without counterpart, which a test of its own counts."""
    arguments: dict[str, Any] = {"control": CONTROLS, **changes}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "contexts without a counterpart are dropped")
        return match_contexts(make_image() if image is None else image, make_rna() if rna is None else rna, **arguments)


def test_the_table_says_what_matched_and_what_did_not() -> None:
    table = match().uns["petri_scvi"]["match_contexts"]["table"]
    assert table["status"].to_dict() == {
        "AARS": "only rna",
        "MARCH8": "only image",
        "MARCHF8": "only rna",
        "TOMM20": "matched",
        "WDR1": "only image",
        "non-targeting": "matched",
    }
    assert table["n_image"].to_dict() == {
        "AARS": 0, "MARCH8": 1, "MARCHF8": 0, "TOMM20": 2, "WDR1": 1, "non-targeting": 2
    }  # fmt: skip
    assert table.loc["TOMM20", "image_labels"] == "TOMM20, TOMM20 "
    assert table.loc["non-targeting", ["image_labels", "rna_labels"]].tolist() == ["nontargeting", "non-targeting"]
    assert table.index[table["is_control"]].tolist() == ["non-targeting"]


def test_cells_of_matched_contexts_are_kept_with_their_arrays() -> None:
    mdata = match()
    assert mdata["image"].obs_names.tolist() == [f"image:cell{i}" for i in (0, 1, 2, 5)]
    assert mdata["rna"].obs_names.tolist() == ["rna:cell0", "rna:cell1"]
    images = make_image().obsm["single_cell_images"][[0, 1, 2, 5]]
    np.testing.assert_array_equal(mdata["image"].obsm["single_cell_images"], images)
    np.testing.assert_array_equal(mdata["rna"].X.toarray(), make_rna().X.toarray()[:2])
    for modality in mdata.mod.values():
        assert (modality.obs["perturbation"] == modality.obs["target_gene"]).all()
        assert set(modality.obs["perturbation"]) == {"non-targeting", "TOMM20"}
        assert (modality.obs["is_control"] == (modality.obs["perturbation"] == "non-targeting")).all()
    assert mdata["image"].obs["source_label"].tolist() == ["nontargeting", "TOMM20", "TOMM20 ", "nontargeting"]


def test_synonyms_join_two_names_of_a_gene() -> None:
    mdata = match(synonyms={"MARCH8": "MARCHF8"})
    result = mdata.uns["petri_scvi"]["match_contexts"]
    assert result["n_matched"] == 2
    assert result["table"].loc["MARCHF8", ["status", "image_labels"]].tolist() == ["matched", "MARCH8"]


def test_case_counts_unless_told_otherwise() -> None:
    rna = make_rna(["non-targeting", "Tomm20", "Wdr1"])
    with pytest.raises(ValueError, match="2 genes differ only in case: pass ignore_case=True"):
        match(rna=rna)
    mdata = match(rna=rna, ignore_case=True)
    assert set(mdata["image"].obs["perturbation"]) == set(mdata["rna"].obs["perturbation"]) == {
        "non-targeting", "Tomm20", "Wdr1"
    }  # fmt: skip


def test_a_missing_column_is_named_as_the_argument_that_named_it() -> None:
    with pytest.raises(KeyError, match=r"target_key='gene' is not a column of rna.obs; it has \['target_gene'\]"):
        match(make_image(key="symbol"), target_key={"image": "symbol", "rna": "gene"})


def test_what_is_no_screen_is_named(tmp_path: Path) -> None:
    both = MuData({"image": make_image(), "rna": make_rna()})
    for wrong, kind in ((tmp_path / "image.h5ad", "PosixPath"), (both, "MuData"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"image is a {kind}; expected an AnnData"):
            match_contexts(wrong, make_rna())
    with pytest.raises(TypeError, match="synonyms is a list; pass a mapping .*{'MARCH8': 'MARCHF8'}"):
        match(synonyms=[("MARCH8", "MARCHF8")])
    with pytest.raises(ValueError, match="ignore_case='no'"):
        match(ignore_case="no")


def test_if_nothing_matches_both_sides_are_shown() -> None:
    with pytest.raises(
        ValueError, match=r"obs\['gene'\] of the images has for example \['MARCH8', 'TOMM20', 'WDR1'\].*\['P1'"
    ):
        match(
            make_image(key="gene"),
            make_rna(["non-targeting", "P1", "P2"]),
            target_key={"image": "gene", "rna": "target_gene"},
        )


def test_controls_alone_are_no_match() -> None:
    with pytest.raises(ValueError, match="no target gene is in both"):
        match(make_image(["nontargeting", "A"]), make_rna(["non-targeting", "B"]))


def test_a_screen_without_controls_is_pointed_out() -> None:
    with pytest.warns(UserWarning, match="'image' has no cells with a non-targeting guide"):
        mdata = match(control="non-targeting")
    assert mdata.uns["petri_scvi"]["match_contexts"]["table"].loc["nontargeting", "status"] == "only image"


def test_the_screens_that_were_passed_are_not_changed() -> None:
    image, rna = make_image(), make_rna()
    match(image, rna)
    assert list(image.obs) == ["target_gene", "well"]
    assert list(rna.obs_names) == [f"cell{i}" for i in range(5)]


def test_arrays_on_disk_are_shared_and_never_cut(tmp_path: Path) -> None:
    image = make_image()
    on_disk = np.memmap(tmp_path / "images", dtype=np.uint8, mode="w+", shape=(6, 1, 2, 2))
    image.obsm["single_cell_images"] = on_disk
    with pytest.raises(ValueError, match=r"obsm\['single_cell_images'\] of the image screen are on disk.*keep='all'"):
        match(image)
    kept = match(image, keep="all")["image"]
    assert kept.n_obs == 6
    assert np.shares_memory(kept.obsm["single_cell_images"], on_disk)


def test_the_report_survives_a_round_trip(tmp_path: Path) -> None:
    mdata = match()
    mdata.write_h5mu(tmp_path / "screen.h5mu")
    again = read_h5mu(tmp_path / "screen.h5mu").uns["petri_scvi"]["match_contexts"]
    assert again["table"]["status"].tolist() == mdata.uns["petri_scvi"]["match_contexts"]["table"]["status"].tolist()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="keep='shared'"):
        match(keep="shared")
    with pytest.raises(ValueError, match=r"control has the keys \['image'\]"):
        match(control={"image": "nontargeting"})
    with pytest.raises(KeyError, match="'gene' is not a column of image.obs"):
        match(target_key="gene")


def test_controls_and_synonyms_are_compared_without_case_if_contexts_are() -> None:
    image = make_image(["NonTargeting", "nontargeting", "March8", "MARCH8", "TP53", "TP53"])
    rna = make_rna(["safe", "Safe", "MARCHF8", "TP53", "TP53"])
    control = {"image": "NonTargeting", "rna": "safe"}
    mdata = match(image, rna, control=control, ignore_case=True, synonyms={"march8": "MARCHF8"})
    table = mdata.uns["petri_scvi"]["match_contexts"]["table"]
    assert table["status"].to_dict() == dict.fromkeys(["MARCHF8", "TP53", "non-targeting"], "matched")
    assert table.loc["non-targeting", ["n_image", "n_rna"]].tolist() == [2, 2]


def test_dropped_contexts_are_counted() -> None:
    image, rna = make_image(), make_rna()
    words = r"2 contexts \(2 cells\) of 'image', for example \['MARCH8', 'WDR1'\] and 2 contexts \(3 cells\) of 'rna'"
    with pytest.warns(UserWarning, match=words) as caught:
        match_contexts(image, rna, control=CONTROLS)
    assert caught[0].filename == __file__
    match_contexts(image, rna, control=CONTROLS, keep="all")


def test_combinations_match_as_sets_of_genes() -> None:
    image = make_image(["nontargeting", "A+B", "B", "C+ctrl", "A+A", "ctrl+nontargeting", "March8+B"])
    rna = make_rna(["ctrl", "B + A", "B+ctrl", "C", "A", "B+MARCHF8"])
    control = ["nontargeting", "ctrl"]
    mdata = match(image, rna, control=control, separator="+", synonyms={"March8": "MARCHF8"})
    assert mdata["image"].obs["perturbation"].tolist() == [
        "non-targeting", "A+B", "B", "C", "A", "non-targeting", "B+MARCHF8"
    ]  # fmt: skip
    assert mdata["rna"].obs["perturbation"].tolist() == ["non-targeting", "A+B", "B", "C", "A", "B+MARCHF8"]
    assert mdata["rna"].obs["source_label"].tolist() == rna.obs["target_gene"].tolist()
    assert mdata.uns["petri_scvi"]["match_contexts"]["parameters"]["separator"] == "+"
    for wrong in ("", " ", 1):
        with pytest.raises(ValueError, match=f"separator={wrong!r}"):
            match(separator=wrong)


def test_a_label_of_controls_may_hold_the_separator() -> None:
    image, rna = make_image(["non-targeting", "B-A"]), make_rna(["non-targeting", "A-B"])
    assert match(image, rna, control="non-targeting", separator="-")["rna"].n_obs == 2


@pytest.mark.parametrize("ignore_case", [True, False])
def test_combinations_in_another_order_are_pointed_out_and_the_advice_works(ignore_case: bool) -> None:
    image, rna = make_image(["nontargeting", "A|B", "C"]), make_rna(["non-targeting", "B|A", "C"])
    with pytest.warns(UserWarning, match=r"1 combinations differ only in the order.*: pass separator='\|'"):
        match_contexts(image, rna, control=CONTROLS, ignore_case=ignore_case)
    assert match_contexts(image, rna, control=CONTROLS, separator="|", ignore_case=ignore_case)["image"].n_obs == 3
    with pytest.raises(ValueError, match=r"no target gene is in both.*pass separator='\|'"):
        match(image[:2].copy(), rna[:2].copy())


def test_combinations_that_differ_in_case_and_order_are_one() -> None:
    image, rna = make_image(["nontargeting", "tomm20+MARCH8"]), make_rna(["non-targeting", "March8+Tomm20"])
    mdata = match(image, rna, separator="+", ignore_case=True)
    assert set(mdata["image"].obs["perturbation"]) == set(mdata["rna"].obs["perturbation"])
    assert len(set(mdata["image"].obs["perturbation"])) == 2


def test_controls_are_looked_for() -> None:
    found = r"no row of image.obs has 'NT'\. These labels look like controls: \['nontargeting'\]"
    with pytest.raises(ValueError, match=found):
        match(control={"image": "NT", "rna": "non-targeting"})
    with pytest.raises(ValueError, match="no row of image or rna.obs has 'NT'"):
        match(control=["NT", "nontargeting", "non-targeting"])
    assert match(control=["nontargeting", "non-targeting"])["image"].n_obs == 4
    with pytest.warns(UserWarning, match=r"'image' has no cells .* look like controls: \['nontargeting'\]"):
        match(control="non-targeting")
    numbers = make_image([0, 1]), make_rna([0.0, 1.0])  # type: ignore[list-item]
    assert set(match_contexts(*numbers, control=0)["rna"].obs["perturbation"]) == {"non-targeting", "1"}


def test_screens_without_controls_are_matched_if_that_is_said() -> None:
    image, rna = make_image(["A", "B"]), make_rna(["A", "B"])
    with pytest.raises(ValueError, match="none looks like a control.*or None for a screen without controls"):
        match_contexts(image, rna)
    mdata = match_contexts(image, rna, control=None)
    assert not mdata["image"].obs["is_control"].any()
    with_control = make_rna(["A", "B", "NT"])
    with pytest.warns(UserWarning, match=re.escape("1 contexts (1 cells) of 'rna', for example ['non-targeting']")):
        match_contexts(image, with_control, control={"image": None, "rna": "NT"})


def test_words_for_missing_labels_and_columns_of_one_name_are_told() -> None:
    with pytest.warns(UserWarning, match=r"1 rows of rna.obs\['target_gene'\] have the label 'nan'"):
        match(rna=make_rna(["non-targeting", "TOMM20", "nan"]))
    image = make_image()
    image.obs = pd.concat([image.obs, image.obs[["target_gene"]]], axis=1)
    with pytest.raises(ValueError, match="image.obs has 2 columns named 'target_gene'"):
        match(image)
    with pytest.raises(TypeError, match=r"target_key=\['a', 'b'\] is a list"):
        match(target_key=["a", "b"])
