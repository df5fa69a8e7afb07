"""Groups of contexts whose cells share documents in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scvi

from petri_scvi import PETRI, baselines, io
from petri_scvi._groups import recorded_groups
from petri_scvi.model.setup._context_groups import group_codes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

GROUPS = {"first": ["TARGET01", "TARGET02", "TARGET03"], "second": ["TARGET03", "TARGET05"]}


def manager_of(mdata: MuData) -> Any:
    return PETRI._get_most_recent_anndata_manager(mdata, required=True)


def saved(mdata: MuData, groups: Any, **setup: Any) -> Any:
    """What the setup saves as groups."""
    PETRI.setup_mudata(mdata, context_groups=groups, **setup)
    return manager_of(mdata).registry["setup_args"]["context_groups"]


def names_of_groups(mdata: MuData) -> list[list[str]]:
    """Contexts of each group, by name."""
    manager = manager_of(mdata)
    known = manager.get_state_registry("context_image")["categories"]
    return [[known[code] for code in codes] for codes in group_codes(manager)]


def labels_of_groups(labels: pd.Series) -> list[str]:
    """Groups of each perturbation, as a column of a table has them."""
    return [";".join(name for name, members in GROUPS.items() if label in members) for label in labels.astype(str)]


def test_a_mapping_a_file_and_columns_register_the_same_groups(screen: MuData, tmp_path: Path) -> None:
    (tmp_path / "sets.gmt").write_text("".join(f"{name}\t\t" + "\t".join(of) + "\n" for name, of in GROUPS.items()))
    targets = sorted(screen["rna"].obs["target_gene"].unique())
    column = pd.Series(labels_of_groups(pd.Series(targets)), index=targets)
    for modality in screen.mod.values():
        modality.obs["complexes"] = pd.Categorical(labels_of_groups(modality.obs["perturbation"]))
        modality.obs["lists"] = [text.split(";") if text else [] for text in modality.obs["complexes"]]
    screen["rna"].var["pathways"] = column.reindex(screen["rna"].var_names)
    sources = (GROUPS, tmp_path / "sets.gmt", str(tmp_path / "sets.gmt"), column, "complexes", "lists", "pathways")
    for source in sources:
        assert {name: sorted(of) for name, of in saved(screen, source).items()} == GROUPS
        assert names_of_groups(screen) == list(GROUPS.values())


def test_a_column_that_one_modality_has_is_enough(screen: MuData) -> None:
    obs = screen["image"].obs
    obs["complexes"] = labels_of_groups(obs["perturbation"])
    assert {name: sorted(of) for name, of in saved(screen, "complexes").items()} == GROUPS


def test_unknown_members_and_small_groups_are_counted(screen: MuData) -> None:
    groups = {**GROUPS, "third": ["TARGET01", "NOBODY"], "fourth": ["TARGET02", "TARGET02"], "fifth": []}
    words = (
        r"1 of 5 perturbations in context_groups are not contexts of the data, for example \['NOBODY'\]; 3 of 5 "
        r"groups have fewer than two that are, and are left out. Documents are drawn from 2 groups"
    )
    with pytest.warns(UserWarning, match=words):
        assert saved(screen, groups) == GROUPS


@pytest.mark.parametrize(
    ("groups", "error", "words"),
    [
        ({"a": ["X", "Y"]}, ValueError, ("none of 1 groups", "'X'", "TARGET01", "groups need these names")),
        ({}, ValueError, ("none of 0 groups",)),
        ("perturbation", ValueError, ("a group of its own", "context_groups='perturbation'")),
        ("nothing", KeyError, ("'nothing' is not a column of obs or var", "path of a GMT file")),
        (["guide", "well"], ValueError, ("several columns are accepted if all are in context_key",)),
        (3, TypeError, ("context_groups is a int; pass a mapping",)),
    ],
)
def test_groups_that_cannot_be_used_are_refused_before_anything_is_written(
    screen: MuData, refused: Callable[..., Any], groups: Any, error: type[Exception], words: tuple[str, ...]
) -> None:
    with refused(error, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen, context_groups=groups)


def test_models_that_draw_no_such_documents_refuse_groups(screen: MuData, fit: Callable[..., PETRI]) -> None:
    for model in (baselines.MAE, baselines.CLIP, baselines.PCAPixels):
        with pytest.raises(ValueError, match=rf"{model.__name__} draws no documents of several contexts"):
            model.setup_mudata(screen, context_groups=GROUPS)
    with pytest.raises(ValueError, match="no set transformer, so cells of a document are independent"):
        fit(screen, {"context_groups": GROUPS}, {"set_transformer_depth": 0})


# Several columns


@pytest.fixture
def crossed(screen: MuData) -> MuData:
    """Every perturbation in two backgrounds and two doses."""
    for modality in screen.mod.values():
        n = np.arange(modality.n_obs)
        modality.obs["background"], modality.obs["dose"] = np.array(["DMSO", "drug"])[n % 2], n // 2 % 2
    return screen


def test_nesting_groups_the_contexts_that_agree_in_some_columns(crossed: MuData) -> None:
    columns = ["perturbation", "background", "dose"]
    n_perturbations = crossed["rna"].obs["perturbation"].nunique()
    assert saved(crossed, "perturbation", context_key=columns) == ["perturbation"]
    found = names_of_groups(crossed)
    assert len(found) == n_perturbations
    assert found[0] == [f"TARGET01 | {background} | {dose}" for background in ("DMSO", "drug") for dose in (0, 1)]
    saved(crossed, ["perturbation", "dose"], context_key=columns)
    assert names_of_groups(crossed)[0] == ["TARGET01 | DMSO | 0", "TARGET01 | drug | 0"]


def test_members_name_a_perturbation_in_all_backgrounds_or_one_context(crossed: MuData) -> None:
    groups = {"all": ["TARGET01", "TARGET02"], "some": ["TARGET01 | drug", "TARGET03 | drug"]}
    saved(crossed, groups, context_key=["perturbation", "background"])
    everywhere = [f"TARGET0{i} | {background}" for i in (1, 2) for background in ("DMSO", "drug")]
    assert names_of_groups(crossed) == [everywhere, groups["some"]]


def test_a_nested_model_trains_saves_and_loads(
    crossed: MuData, fit: Callable[..., PETRI], tmp_path: Path, quiet: dict[str, Any]
) -> None:
    setup = {"context_key": ["perturbation", "background"], "context_groups": "perturbation"}
    model = fit(crossed, setup, datasplitter_kwargs={"group_share": 1.0})
    model.get_latent_representation()
    assert recorded_groups(crossed) == {}
    model.save(tmp_path / "model")
    loaded = PETRI.load(tmp_path / "model", crossed)
    loaded.train(max_epochs=1, **quiet)
    assert len(group_codes(loaded.adata_manager)) == crossed["rna"].obs["perturbation"].nunique()


def test_a_column_that_one_modality_lacks_is_named_with_what_to_do(
    crossed: MuData, refused: Callable[..., Any]
) -> None:
    del crossed["rna"].obs["dose"]
    words = ("'dose'", "mdata['rna'].obs", "mdata['image'] has it", "mdata['rna'].obs['dose'] = ", "context_key")
    with refused(KeyError, *words, untouched=(crossed,)):
        PETRI.setup_mudata(crossed, context_key=["perturbation", "dose"])
    crossed["rna"].obs["dose"] = "0"
    crossed["image"].obs["dose"] = "0"
    PETRI.setup_mudata(crossed, context_key=["perturbation", "dose"])


# Training


def test_groups_are_drawn_saved_loaded_and_recorded(
    screen: MuData, make_screen: Callable[..., MuData], fit: Callable[..., PETRI], tmp_path: Path, quiet: Any
) -> None:
    model = fit(screen, {"context_groups": GROUPS})
    settings = {"train_size": 0.9, "n_cells_per_context": 4}
    module = model._make_datamodule(dict(settings))
    drawn = np.concatenate([minibatch["context"].numpy() for minibatch in module.train_dataloader()])
    assert (drawn < 0).mean() == 0.5
    embedding = model.get_latent_representation()
    assert recorded_groups(screen) == GROUPS
    model.save(tmp_path / "model")
    other = make_screen()
    loaded = PETRI.load(tmp_path / "model", other)
    np.testing.assert_array_equal(loaded.get_latent_representation(), embedding)
    assert recorded_groups(other) == GROUPS
    again = loaded._make_datamodule(dict(settings)).train_dataloader()
    assert np.array_equal(np.concatenate([minibatch["context"].numpy() for minibatch in again]), drawn)
    loaded.train(max_epochs=1, **quiet)


def test_groups_change_what_is_learned_and_the_same_seed_gives_the_same_model(
    make_screen: Callable[..., MuData], fit: Callable[..., PETRI]
) -> None:
    def embedding(setup: dict[str, Any] | None) -> Any:
        scvi.settings.seed = 0
        return fit(make_screen(), setup).get_latent_representation()

    plain, one, again = map(embedding, (None, {"context_groups": GROUPS}, {"context_groups": GROUPS}))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(plain, one)


@pytest.mark.slow
def test_a_model_trained_from_a_store_draws_the_same_documents_by_group(
    screen: MuData, fit: Callable[..., PETRI], tmp_path: Path
) -> None:
    obs = screen["image"].obs
    obs["complexes"] = labels_of_groups(obs["perturbation"])
    io.write_training_store(screen, tmp_path / "store.zarr")
    stored = io.open_screen(tmp_path / "store.zarr")
    model = fit(stored, {"context_groups": "complexes"})
    assert np.isfinite(model.get_latent_representation()).all()
    assert {name: sorted(of) for name, of in recorded_groups(stored).items()} == GROUPS


def test_the_file_of_an_embedding_records_the_groups(screen: MuData, fit: Callable[..., PETRI], tmp_path: Path) -> None:
    fit(screen, {"context_groups": GROUPS}).write_latent_representation(tmp_path / "embedding.h5mu")
    assert recorded_groups(io.open_screen(tmp_path / "embedding.h5mu")) == GROUPS


def test_a_checkpoint_of_other_groups_or_another_share_is_refused(
    make_screen: Callable[..., MuData], fit: Callable[..., PETRI], tmp_path: Path
) -> None:
    path = tmp_path / "training.ckpt"
    fit(make_screen(), {"context_groups": GROUPS}, checkpoint=path)
    fit(make_screen(), {"context_groups": GROUPS}, checkpoint=path)
    with pytest.raises(ValueError, match="group_share was 0.5 and is 0.25"):
        fit(make_screen(), {"context_groups": GROUPS}, checkpoint=path, datasplitter_kwargs={"group_share": 0.25})
    with pytest.raises(ValueError, match="checksum of groups was"):
        fit(make_screen(), {"context_groups": {"a": ["TARGET01", "TARGET04"]}}, checkpoint=path)
