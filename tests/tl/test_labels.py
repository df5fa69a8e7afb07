"""Labels mean the same in every function: controls, missing labels, columns."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from petri_scvi import PETRI, pp, tl
from petri_scvi.tl.guides._guide_statistics import read_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from mudata import MuData

    MakeCells = Callable[..., AnnData]
    MakeProfiles = Callable[..., AnnData]

EDGES = pd.DataFrame({"a": ["GENE0", "GENE2", "GENE4"], "b": ["GENE1", "GENE3", "GENE5"]})
OF_PROFILES: dict[str, Callable[..., Any]] = {
    "guide_consistency": lambda profiles, **kwargs: tl.guide_consistency(profiles, n_null=500, **kwargs),
    "mean_average_precision": lambda profiles, **kwargs: tl.mean_average_precision(profiles, n_null=500, **kwargs),
    "edge_recall": lambda profiles, **kwargs: tl.edge_recall(tl.aggregate_guides(profiles), EDGES, **kwargs),
    "efaar_recall": lambda profiles, **kwargs: tl.efaar_recall(tl.aggregate_guides(profiles), EDGES, **kwargs),
    "guide_model": lambda profiles, **kwargs: read_statistics(profiles, kwargs.get("control", "non-targeting")),
}
OF_CELLS: dict[str, Callable[..., Any]] = {
    "center_scale": lambda cells, **kwargs: tl.center_scale(cells, "X_emb", **kwargs),
    "whiten": lambda cells, **kwargs: tl.whiten(cells, "X_emb", fit_on="controls", **kwargs),
    "score_screen": lambda cells, **kwargs: tl.score_screen(
        cells, "X_emb", edges=EDGES, n_bootstrap=0, progress=False, **kwargs
    ),
    "perturbation_strength": lambda cells, **kwargs: tl.perturbation_strength(
        cells, "X_emb", n_permutations=19, progress=False, **kwargs
    ),
    "replicate_consistency": lambda cells, **kwargs: tl.replicate_consistency(cells, "X_emb", n_null=500, **kwargs),
}
HAVE_REPLICATES = ("center_scale", "score_screen", "perturbation_strength", "replicate_consistency")


def results(data: AnnData | MuData, name: str) -> Any:
    found = data.uns["petri_scvi"]
    slots = {"center_scale": "X_emb_scaled", "whiten": "X_emb_whitened"}
    return found[name if name in found else f"{name}_{slots.get(name, 'X_emb')}"]


def named(cells: AnnData, name: str, two_labels: bool = False) -> AnnData:
    """Controls under another name, or half of them under each of two."""
    renamed = cells.copy()
    for column in ("target_gene", "perturbation"):
        labels = renamed.obs[column].to_numpy(dtype=object)
        is_control = labels == "non-targeting"
        labels[is_control] = np.where(np.arange(is_control.sum()) % 80 < 40, name, "safe" if two_labels else name)
        renamed.obs[column] = labels
    return renamed


@pytest.mark.parametrize("name", OF_CELLS)
def test_controls_of_cells_are_looked_for_and_can_have_several_labels(
    make_cells: MakeCells, name: str, assert_same: Callable[..., None]
) -> None:
    cells = make_cells()
    call, expected = OF_CELLS[name], cells.copy()
    call(expected)
    for two_labels, control in ((False, "ctrl"), (True, ["ctrl", "safe"])):
        renamed = named(cells, "ctrl", two_labels)
        with pytest.raises(ValueError, match=r"has 'non-targeting'\. These labels look like controls: \['ctrl'"):
            call(renamed)
        call(renamed, control=control)
        found = results(renamed, name)
        if name != "score_screen" or not two_labels:  # guides of two labels each are refused as one guide of two genes
            _same_numbers(found, results(expected, name), assert_same)
        assert np.atleast_1d(found["parameters"]["control"]).tolist() == np.atleast_1d(control).tolist()


def _same_numbers(found: dict[str, Any], expected: dict[str, Any], assert_same: Callable[..., None]) -> None:
    without = [{k: v for k, v in result.items() if k != "parameters"} for result in (found, expected)]
    assert_same(*without)


@pytest.mark.parametrize("name", OF_PROFILES)
def test_controls_of_profiles_are_looked_for_and_can_have_several_labels(
    make_profiles: MakeProfiles, name: str
) -> None:
    profiles = make_profiles(signal=1.0)
    profiles.obs["n_cells"], profiles.obs["guide"] = 10, profiles.obs_names
    profiles.obs["target_gene"] = [*profiles.obs["target_gene"][:60], "ctrl", "ctrl", "safe", "safe"]
    with pytest.raises(ValueError, match=r"has 'non-targeting'\. These labels look like controls: \['ctrl', 'safe'\]"):
        OF_PROFILES[name](profiles)
    with pytest.raises(ValueError, match="has 'absent'"):
        OF_PROFILES[name](profiles, control=["ctrl", "absent"])
    with _few_known():
        OF_PROFILES[name](profiles, control=["ctrl", "safe"])
    if name in profiles.uns.get("petri_scvi", {}):
        assert set(results(profiles, name)["table"]["target_gene"]) == {f"GENE{i}" for i in range(20)}
        without = profiles[:60].copy()
        with pytest.raises(ValueError, match="or pass control=None if there are no controls"):
            OF_PROFILES[name](without)
        OF_PROFILES[name](without, control=None)
        np.testing.assert_array_equal(
            results(without, name)["table"]["p_value"], results(profiles, name)["table"]["p_value"]
        )


def _few_known() -> Any:
    stack = contextlib.ExitStack()
    stack.enter_context(pytest.MonkeyPatch.context()).setattr("petri_scvi.tl.scores._edges.FEW_GENES", 0)
    return stack


@pytest.mark.parametrize("name", [name for name in OF_PROFILES if name != "guide_model"])
def test_a_profile_without_target_gene_is_no_gene(make_profiles: MakeProfiles, name: str) -> None:
    profiles = make_profiles(n_genes=6, signal=1.0)
    holes = profiles.copy()
    holes.obs["target_gene"] = holes.obs["target_gene"].astype(object)
    holes.obs.iloc[:3, 0] = None
    with pytest.warns(UserWarning, match="3 of 22 profiles have no target_gene, for example 'sg0'; they are left out"):
        OF_PROFILES[name](holes)
    if name in holes.uns.get("petri_scvi", {}):
        rest = profiles[3:].copy()
        OF_PROFILES[name](rest)
        pd.testing.assert_frame_equal(results(holes, name)["table"], results(rest, name)["table"])


def test_guides_without_target_gene_are_left_out_of_the_profiles_of_genes(make_profiles: MakeProfiles) -> None:
    profiles = make_profiles(n_genes=3)
    profiles.obs["target_gene"] = [None, None, None, *profiles.obs["target_gene"][3:]]
    with pytest.warns(UserWarning, match="3 of 13 profiles have no target_gene"):
        genes = tl.aggregate_guides(profiles)
    assert genes.obs_names.tolist() == ["GENE1", "GENE2", "non-targeting"]
    np.testing.assert_allclose(genes.X[0], profiles.X[3:6].mean(axis=0))
    profiles.obs["target_gene"] = None
    with (
        pytest.warns(UserWarning, match="13 of 13 profiles have no target_gene"),
        pytest.raises(ValueError, match="no profile has a target_gene"),
    ):
        tl.aggregate_guides(profiles)


@pytest.mark.parametrize("name", HAVE_REPLICATES)
def test_a_replicate_can_be_several_columns(make_cells: MakeCells, name: str, assert_same: Callable[..., None]) -> None:
    cells = make_cells()
    expected = cells.copy()
    OF_CELLS[name](expected)
    cells.obs["plate"], cells.obs["well"] = "p", pd.Categorical(cells.obs["replicate"])
    OF_CELLS[name](cells, replicate_key=["plate", "well"])
    found = results(cells, name)
    assert list(found["parameters"]["replicate_key"]) == ["plate", "well"]
    tables = [result["table"].drop(columns="replicate", errors="ignore") for result in (found, results(expected, name))]
    assert_same(*tables)


def test_profiles_of_replicates_of_several_columns(make_cells: MakeCells) -> None:
    cells = make_cells()
    cells.obs["plate"] = "p"
    profiles = tl.replicate_profiles(cells, "X_emb", replicate_key=["plate", "replicate"])
    assert len(set(profiles.obs["replicate"])) == 2
    np.testing.assert_array_equal(profiles.X, tl.replicate_profiles(cells, "X_emb").X)


def test_numbers_are_labels_whatever_their_type(make_cells: MakeCells) -> None:
    """A column of whole numbers turns into one of floats where one is missing."""
    cells = make_cells()
    codes = pd.factorize(cells.obs["target_gene"])[0]
    cells.obs["target_gene"] = np.where(np.arange(len(codes)) == 0, np.nan, codes)
    cells.obs["guide"] = pd.factorize(cells.obs["guide"])[0]
    profiles = tl.aggregate_profiles(cells, "X_emb")
    assert set(profiles.obs["target_gene"]) == {str(code) for code in codes}
    assert profiles.obs_names.tolist() == sorted({str(code) for code in range(16)})
    tl.guide_consistency(profiles, control=6, n_null=500)
    assert len(results(profiles, "guide_consistency")["table"]) == 6


def test_columns_of_one_name_and_lists_of_columns_are_refused(make_cells: MakeCells) -> None:
    cells = make_cells()
    with pytest.raises(TypeError, match=r"\['guide', 'replicate'\] is a list; pass the name of one column"):
        tl.aggregate_profiles(cells, "X_emb", guide_key=["guide", "replicate"])  # type: ignore[arg-type]
    cells.obs = pd.concat([cells.obs, cells.obs[["guide"]]], axis=1)
    with pytest.raises(ValueError, match="adata.obs has 2 columns named 'guide'"):
        tl.aggregate_profiles(cells, "X_emb")


def test_words_for_missing_values_are_pointed_out(make_cells: MakeCells) -> None:
    cells = make_cells()
    cells.obs.loc[cells.obs["guide"] == "sg0", "target_gene"] = None
    cells.obs["target_gene"] = cells.obs["target_gene"].astype(object).map(str)
    with pytest.warns(UserWarning, match=r"20 rows of adata.obs\['target_gene'\] have the label '(None|nan)'"):
        tl.aggregate_profiles(cells, "X_emb")


def test_a_modality_without_replicates_is_left_out_with_a_warning(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata()
    expected = mdata.copy()
    tl.replicate_consistency(expected, "X_emb", n_null=500)
    mdata["rna"].obs["replicate"] = None
    with pytest.warns(UserWarning, match="no cell of modality 'rna' but controls has both"):
        tl.replicate_consistency(mdata, "X_emb", n_null=500)
    table = results(mdata, "replicate_consistency")["table"]
    assert set(table["modality"]) == {"image"}
    whole = results(expected, "replicate_consistency")["table"]
    np.testing.assert_array_equal(table["similarity"], whole.loc[whole["modality"] == "image", "similarity"])
    with pytest.warns(UserWarning, match="320 cells have a 'guide' but no replicate; they are left out"):
        assert set(tl.replicate_profiles(mdata, "X_emb").obs["modalities"]) == {"image"}
    with (
        pytest.warns(UserWarning, match="240 cells of modality 'rna' are in replicates without controls, or in none"),
        pytest.warns(UserWarning, match="6 of 12 perturbations have fewer than 2 cells"),
    ):
        tl.perturbation_strength(mdata, "X_emb", n_permutations=19, progress=False)
    with pytest.raises(ValueError, match=r"obs\[\['replicate'\]\] is missing for 320 of 640 cells"):
        tl.center_scale(mdata, "X_emb")


def test_one_guide_per_target_leaves_out_guide_consistency_alone(make_cells: MakeCells) -> None:
    cells = make_cells(n_guides=1)
    with pytest.warns(
        UserWarning, match="X_emb all none: guide consistency is left out, as none of the 6 target genes"
    ):
        table = tl.score_screen(cells, "X_emb", edges=EDGES, n_bootstrap=0, progress=False)
    assert "guide_consistency" not in set(table["metric"])
    expected = tl.score_screen(make_cells(), "X_emb", edges=EDGES, n_bootstrap=0, progress=False)
    assert set(table["metric"]) == set(expected["metric"]) - {"guide_consistency"}
    with pytest.raises(ValueError, match=r"none of the 6 target genes has two guides.*Or pass edges="):
        tl.score_screen(cells, "X_emb", progress=False)


def test_modalities_with_guides_of_their_own_are_joined_by_gene(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata(shared=False)
    mdata["rna"].obs["guide"] = "rna_" + mdata["rna"].obs["guide"]
    with pytest.warns(UserWarning, match=r"image\+rna max_cosine: the modalities have no guide in common"):
        table = tl.score_screen(mdata, "X_emb", edges=EDGES, n_bootstrap=0, progress=False, fusions="max_cosine")
    joint = table[table["modality"] == "image+rna"]
    assert "edge_auc" in set(joint["metric"])
    assert "guide_consistency" not in set(joint["metric"])


def test_several_columns_in_place_of_one_are_refused_wherever_the_embedding_lies(
    make_mudata: Callable[..., MuData],
) -> None:
    for mdata in (make_mudata(), make_mudata(shared=False), make_mudata(shared=False)["rna"]):
        arguments = {} if not hasattr(mdata, "mod") else {"modality": "rna"}
        with pytest.raises(TypeError, match=r"\['guide', 'replicate'\] is a list; pass the name of one column"):
            tl.aggregate_profiles(mdata, "X_emb", guide_key=["guide", "replicate"], **arguments)  # type: ignore[arg-type]


def test_a_modality_called_like_all_of_them_is_refused(make_mudata: Callable[..., MuData], screen: MuData) -> None:
    mdata = type(screen)({"all": make_mudata(shared=False)["image"], "rna": make_mudata(shared=False)["rna"]})
    with pytest.raises(ValueError, match="a modality is called 'all', which results call all modalities together"):
        tl.probe(mdata, "X_emb", obs_key="guide")
    renamed = type(screen)({"all": screen["image"], "rna": screen["rna"]})
    with pytest.raises(ValueError, match="a modality is called 'all'"):
        PETRI.setup_mudata(renamed, modalities={"images_key": "all"})
    PETRI.setup_mudata(pp.build_mudata(image=renamed["all"], rna=renamed["rna"]))


def test_numbers_as_perturbations_are_one_whatever_their_type_in_each_modality(planted: MuData) -> None:
    planted = planted.copy()
    names = sorted(set(planted["rna"].obs["perturbation"].astype(str)))
    results = []
    for dtypes in ((str, str), (int, float)):
        for adata, dtype in zip(planted.mod.values(), dtypes, strict=True):
            codes = adata.obs["perturbation"].astype(str).map(names.index)
            adata.obs["number"] = codes.astype(int).astype(dtype).to_numpy()
        tl.dimension_activity(planted, perturbation_key="number")
        tl.dimension_agreement(planted, obs_key="number", n_permutations=99)
        results.append(planted.uns["petri_scvi"])
    first, second = results
    found, expected = (result["dimension_activity_X_sae"] for result in (second, first))
    assert found["perturbations"].tolist() == expected["perturbations"].tolist()
    np.testing.assert_array_equal(found["mean"]["rna"], expected["mean"]["rna"])
    pd.testing.assert_frame_equal(second["dimension_agreement"]["table"], first["dimension_agreement"]["table"])


def test_errors_name_the_columns_of_the_user(make_cells: MakeCells) -> None:
    cells = make_cells()
    cells.obs["nothing"] = None
    with (
        pytest.warns(UserWarning, match="have a 'guide' but no nothing"),
        pytest.raises(ValueError, match="no cell has a 'guide', a 'target_gene' and 'nothing'"),
    ):
        tl.replicate_profiles(cells, "X_emb", replicate_key="nothing")
    targets = cells.obs["target_gene"].astype(str).to_numpy()
    cells.obs["other"] = np.where(np.arange(cells.n_obs) % 2, targets, "other")
    with pytest.raises(ValueError, match=r"values of obs\['guide'\] have more than one obs\['other'\]"):
        tl.replicate_profiles(cells, "X_emb", target_key="other")
    cells.obs["perturbation"] = "non-targeting"
    with (
        pytest.warns(UserWarning, match="no cell of modality 'all' but controls has both"),
        pytest.raises(ValueError, match="no perturbation was seen in two values"),
    ):
        tl.replicate_consistency(cells, "X_emb")


def test_a_similarity_that_depends_on_the_order_of_profiles_is_refused(make_profiles: MakeProfiles) -> None:
    profiles = make_profiles()
    tl.profile_similarity(profiles)
    profiles.obsp["lower"] = np.tril(profiles.obsp["similarity"])
    for score in (tl.guide_consistency, tl.mean_average_precision):
        with pytest.raises(ValueError, match=r"profiles.obsp\['lower'\] is not symmetric"):
            score(profiles, similarity_key="lower", n_null=500)
