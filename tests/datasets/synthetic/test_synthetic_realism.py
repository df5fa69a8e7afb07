"""What real screens have, switched on one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from petri_scvi.datasets import synthetic_screen
from petri_scvi.datasets.synthetic._synthetic_realism import SHARE_IN_STATE

if TYPE_CHECKING:
    from mudata import MuData


def screen(**changes: Any) -> MuData:
    arguments = {"n_cells": 900, "n_pathways": 2, "n_genes": 60, "image_size": 12, "shared_fraction": 1.0} | changes
    return synthetic_screen(1, **arguments)


def channel_means(mdata: MuData) -> np.ndarray:
    return mdata["image"].obsm["single_cell_images"].mean(axis=(2, 3), dtype=np.float64)


def test_what_is_switched_on_leaves_the_rest_of_the_screen_as_it_was() -> None:
    plain, changed = screen(), screen(gene_interactions=True)
    for table in ("perturbations", "guides", "gene_loadings"):
        pd.testing.assert_frame_equal(plain.uns["synthetic_screen"][table], changed.uns["synthetic_screen"][table])
    images = [one["image"].obsm["single_cell_images"] for one in (plain, changed)]
    np.testing.assert_array_equal(*images)
    np.testing.assert_array_equal(screen(equal_intensity=True)["rna"].X.toarray(), plain["rna"].X.toarray())
    assert (plain["rna"].X != changed["rna"].X).nnz > 0
    assert not {"true_state", "true_switch", "background"} & set(plain["rna"].obs)
    again = screen(gene_interactions=True)
    assert (changed["rna"].X != again["rna"].X).nnz == 0


def test_fractions_of_cells_in_a_state_follow_guides_and_every_cell_in_it_is_alike() -> None:
    mdata = screen(changes_fractions=True, penetrance=0.8)
    obs = mdata["rna"].obs
    assert set(obs["true_effect"]) == {0.0, 1.0}
    in_state = obs["true_state"].astype(str) != "non-targeting"
    assert in_state[obs["is_control"]].mean() == pytest.approx(SHARE_IN_STATE, abs=0.12)
    efficacy = mdata.uns["synthetic_screen"]["guides"].set_index("guide")["efficacy"]
    expected = 0.8 * efficacy.loc[obs["guide"].astype(str)].to_numpy()
    is_own = obs["true_state"].astype(str) == obs["perturbation"].astype(str)
    is_own &= ~obs["is_control"]
    assert np.corrcoef(expected, is_own)[0, 1] > 0.4
    assert is_own[~obs["is_control"]].mean() == pytest.approx(expected[~obs["is_control"]].mean(), abs=0.07)


def test_states_of_equal_intensity_differ_in_arrangement_only() -> None:
    changes = {"image_strength": 3.0, "penetrance": 1.0, "n_cells": 1200}
    differences = {}
    for is_equal in (False, True):
        mdata = screen(equal_intensity=is_equal, **changes)
        means, obs = channel_means(mdata), mdata["image"].obs
        noise = 1 / np.sqrt(obs["perturbation"].value_counts())
        standardised = (means - means.mean(axis=0)) / means.std(axis=0)
        control = standardised[obs["is_control"]].mean(axis=0)
        apart = pd.DataFrame(standardised).groupby(obs["perturbation"].to_numpy()).mean() - control
        differences[is_equal] = (apart.abs().max(axis=1) / noise.loc[apart.index]).drop("non-targeting")
        images = mdata["image"].obsm["single_cell_images"].astype(np.float64)
        spread = (images.std(axis=(2, 3)) / images.mean(axis=(2, 3)))[:, 2]  # droplets
    assert differences[False].max() > 12
    assert differences[True].max() < 6
    target = mdata.uns["synthetic_screen"]["perturbation_morphology_effects"].loc["droplet_number"].abs().idxmax()
    chosen = obs["is_control"] | (obs["perturbation"] == target)
    auc = roc_auc_score(obs["perturbation"][chosen] == target, spread[chosen.to_numpy()])
    assert abs(auc - 0.5) > 0.1


def test_interactions_keep_the_mean_of_a_gene_and_change_it_by_the_switch() -> None:
    mdata = screen(gene_interactions=True, rna_strength=1.5, penetrance=1.0, n_cells=3000, n_pathways=1)
    rna, truth = mdata["rna"], mdata.uns["synthetic_screen"]
    target = truth["perturbations"].set_index("perturbation")["strength"].idxmax()
    effects = truth["perturbation_gene_effects"][target]
    gene = effects[(effects > 1) & (truth["genes"]["base_log_mean"] > 0)].idxmax()
    level = np.log1p(1000 * rna[:, gene].X.toarray().ravel() / np.asarray(rna.X.sum(axis=1)).ravel())
    obs = rna.obs
    is_target = (obs["perturbation"] == target).to_numpy()
    on = (obs["true_switch"] == 1).to_numpy()
    gap = level[is_target & on].mean() - level[is_target & ~on].mean()
    of_controls = level[obs["is_control"] & on].mean() - level[obs["is_control"] & ~on].mean()
    assert gap > of_controls + 0.5
    assert abs(level[is_target].mean() - level[obs["is_control"]].mean()) < 0.5 * gap


def test_confounded_guides_lie_in_one_well_and_controls_in_all() -> None:
    mdata = screen(well_confounding=1.0)
    for modality in mdata.mod.values():
        obs = modality.obs
        wells = obs.groupby("guide", observed=True)["well"].nunique()
        is_control = wells.index.str.startswith("non-targeting")
        assert (wells[~is_control] == 1).all()
        assert (wells[is_control] > 3).all()
        replicate_of_well = obs.groupby("well", observed=True)["replicate"].nunique()
        assert (replicate_of_well == 1).all()
    homes = [one.obs.groupby("guide", observed=True)["well"].first().str[-2:] for one in mdata.mod.values()]
    assert (homes[0] != homes[1]).any()  # each modality has wells of its own


def test_wells_have_the_effect_that_was_asked_for() -> None:
    spreads = {}
    for effect in (0.0, 1.0):
        mdata = screen(well_effects=effect)
        well = mdata["rna"].obs["well"].to_numpy()
        genes = np.log1p(pd.DataFrame(mdata["rna"].X.toarray()).groupby(well).mean())
        gains = np.log(pd.DataFrame(channel_means(mdata)).groupby(mdata["image"].obs["well"].to_numpy()).mean())
        spreads[effect] = (genes.std().mean(), gains.std().mean())
    assert spreads[1.0][0] > 2 * spreads[0.0][0]
    assert spreads[1.0][1] > 2 * spreads[0.0][1]


def test_backgrounds_shift_both_modalities_and_change_effects() -> None:
    mdata = screen(n_backgrounds=4, n_cells=1200)
    for modality in mdata.mod.values():
        assert modality.obs["background"].nunique() == 4
    rna = pd.DataFrame(mdata["rna"].X.toarray()).groupby(mdata["rna"].obs["background"].to_numpy()).mean()
    assert (rna.std() / rna.mean()).median() > 0.15
    morphology = mdata["image"].obsm["true_morphology"].groupby(mdata["image"].obs["background"].to_numpy()).mean()
    assert (morphology.std() > 0.05).sum() >= 4
    obs = mdata["rna"].obs
    by_background = obs[obs["true_effect"] > 0].groupby(["perturbation", "background"], observed=True)["true_effect"]
    assert by_background.mean().unstack().std(axis=1).mean() > 0.1


def test_there_can_be_more_than_two_hundred_perturbations_in_four_backgrounds() -> None:
    mdata = synthetic_screen(n_cells=5500, n_pathways=78, n_genes=550, image_size=8, n_backgrounds=4)
    contexts = mdata["rna"].obs.groupby(["perturbation", "background"], observed=True).size()
    assert mdata["rna"].obs["perturbation"].nunique() > 250
    assert len(contexts) > 900
    assert mdata.uns["synthetic_screen"]["programs"]["phenotype"].nunique() > 50


def test_arguments_out_of_range_are_named() -> None:
    wrong: list[dict[str, Any]] = [
        {"well_confounding": 1.5},
        {"well_effects": -1},
        {"n_backgrounds": 0},
        {"equal_intensity": "yes"},
        {"changes_fractions": 1},
    ]
    for arguments in wrong:
        with pytest.raises(ValueError, match=next(iter(arguments))):
            screen(**arguments)
