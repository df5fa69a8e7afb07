"""Modalities named with their kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scvi

from petri_scvi import PETRI, baselines, pp
from petri_scvi.modalities import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

USUAL = {"rna": "counts", "image": "images"}


def test_the_usual_call_registers_what_it_did_before_there_were_kinds(screen: MuData, tiny: dict[str, Any]) -> None:
    PETRI.setup_mudata(screen, modalities={"rna_layer": None})
    registry = PETRI(screen, **tiny).registry_
    assert list(registry["field_registries"]) == ["images", "context_image"]
    PETRI.setup_mudata(screen)
    registry = PETRI(screen, **tiny).registry_
    fields = registry["field_registries"]
    assert list(fields) == ["images", "X", "context_image", "context_rna"]
    assert fields["images"]["summary_stats"] == {"n_image_cells": 240, "n_channels": 5}
    assert fields["X"]["summary_stats"] == {"n_rna_cells": 228, "n_rna_genes": 40}
    assert set(fields["X"]["state_registry"]) == {"n_obs", "n_vars", "column_names", "fingerprint"}
    assert registry["setup_args"] == {
        "context_key": "perturbation",
        "images_key": "single_cell_images",
        "image_channels": None,
        "rna_layer": None,
        "modalities": None,
        "is_paired": False,
    }


def test_naming_the_kinds_of_the_usual_schema_gives_the_same_numbers(
    make_screen: Callable[..., MuData], tiny: dict[str, Any], quiet: dict[str, Any]
) -> None:
    found = []
    for kinds in (None, USUAL):
        scvi.settings.seed = 0
        mdata = make_screen()
        PETRI.setup_mudata(mdata, modalities=kinds)
        model = PETRI(mdata, **tiny)
        model.train(max_epochs=1, **quiet)
        found.append((model.get_latent_representation(), model.history["train_loss"].to_numpy()))
    for usual, by_kind in zip(*found, strict=True):
        np.testing.assert_array_equal(usual, by_kind)


def test_two_modalities_of_one_kind_train_load_and_embed_other_data(
    make_screen: Callable[..., MuData], tiny: dict[str, Any], quiet: dict[str, Any], tmp_path: Path
) -> None:
    def two_microscopes() -> MuData:
        mdata = make_screen()
        other = make_screen(seed=1, image_size=8)["image"]
        other.obsm["crops"] = other.obsm.pop("single_cell_images")
        return pp.build_mudata(near=mdata["image"], far=other, rna=mdata["rna"])

    mdata = two_microscopes()
    kinds: dict[str, Any] = {
        "near": Kind("images", channels=["actin", "nucleus"]),
        "far": Kind("images", obsm="crops"),
        "rna": "counts",
    }
    PETRI.setup_mudata(mdata, modalities=kinds)
    tiny = {**tiny, "modality_settings": {"far": {"patch_size": 4}}}
    model = PETRI(mdata, **tiny)
    assert list(model.module.modalities) == ["far", "near", "rna"]
    assert model.get_var_names()["near"].tolist() == ["actin", "nucleus"]
    assert model.summary_stats["n_near_channels"] == 2
    model.train(max_epochs=1, **quiet)
    model.save(str(tmp_path / "model"))
    loaded = PETRI.load(str(tmp_path / "model"), adata=False)
    new = two_microscopes()
    np.testing.assert_array_equal(loaded.get_latent_representation(new), model.get_latent_representation())
    arguments = loaded.registry_["setup_args"]
    assert arguments["modalities"]["near"] == {
        "kind": "images",
        "obsm": "single_cell_images",
        "channels": ["actin", "nucleus"],
    }
    again = two_microscopes()
    PETRI.setup_mudata(again, **arguments)  # as scvi.autotune does
    assert PETRI(again, **tiny).registry_["setup_args"] == arguments


def test_settings_of_one_modality_are_given_by_name(
    screen: MuData, tiny: dict[str, Any], quiet: dict[str, Any], tmp_path: Path
) -> None:
    PETRI.setup_mudata(screen, modalities=USUAL)
    settings = {"rna": {"expression_encoder_depth": 2, "mask_ratio": 0.5}}
    model = PETRI(screen, **tiny, modality_settings=settings)
    rna: Any = model.module.modality("rna")
    assert len(rna.encoder.cross_blocks) == 2
    model.train(max_epochs=1, **quiet, plan_kwargs={"loss_weights": {"rna": 0.5}})
    assert set(model.get_reconstruction(modality="rna", indices=[0, 1]).mask.sum(axis=1)) == {20}
    assert set(model.get_reconstruction(modality="image", indices=[0, 1]).mask.sum(axis=1)) == {3}
    model.save(str(tmp_path / "model"))
    loaded = PETRI.load(str(tmp_path / "model"), screen)
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    mistakes: list[tuple[Any, str]] = [
        ({"protein": {"mask_ratio": 0.5}}, r"names \['protein'\]; the data was set up with \['image', 'rna'\]"),
        ({"rna": {"embed_dim": 8}}, "embed_dim is the same in all modalities"),
        ({"rna": {"depth": 8}}, "Expected some of .*'expression_encoder_depth'"),
        ({"rna": {"mask_ratio": 0.001}}, "hides none of the 40 tokens of a cell of 'rna'"),
        ({"mask_ratio": 0.5}, "expected arguments by modality"),
    ]
    for wrong, words in mistakes:
        with pytest.raises(ValueError, match=words):
            PETRI(screen, **tiny, modality_settings=wrong)


def test_what_cannot_be_a_kind_is_refused_with_what_can(screen: MuData, tiny: dict[str, Any]) -> None:
    mistakes: list[tuple[Any, type[Exception], str]] = [
        ({"rna": Kind("umi")}, ValueError, r"kind 'umi' is not known; expected one of \['images', 'counts'"),
        ({"rna": {"kind": "counts", "slot": "X"}}, ValueError, r"\['slot'\]; expected some of \['kind', 'layer'"),
        ({"rna": {"layer": "X"}}, ValueError, "has no 'kind'"),
        ({"rna": Kind("counts"), "image": None}, TypeError, r"modalities\['image'\]=None; expected the name of a kind"),
        ({"image": Kind("images", layer="X")}, ValueError, "crops are in obsm"),
    ]
    for wrong, error, words in mistakes:
        with pytest.raises(error, match=words):
            PETRI.setup_mudata(screen, modalities=wrong)
    with pytest.raises(ValueError, match=r"rna_layer='counts' has no effect"):
        PETRI.setup_mudata(screen, modalities=USUAL, rna_layer="counts")
    with pytest.raises(ValueError, match="both say where the cells"):
        Kind("counts", layer="a", obsm="b")
    with pytest.raises(TypeError, match="layer=3; expected text"):
        Kind("counts", layer=3)  # type: ignore[arg-type]
    PETRI.setup_mudata(screen, modalities=USUAL)
    with pytest.raises(ValueError, match="registered as 'counts'"):
        PETRI(screen, **tiny, expression_likelihood="normal")


def test_a_modality_that_shares_no_context_with_the_others_is_named(screen: MuData, make_screen: Any) -> None:
    other = make_screen(seed=1)["rna"]
    other.var_names = "protein " + other.var_names
    other.obs["perturbation"] = "drug " + other.obs["perturbation"].astype(str)
    mdata = pp.build_mudata(**screen.mod, protein=other)
    with pytest.raises(ValueError, match=r"mdata\['protein'\] shares no context with another modality"):
        PETRI.setup_mudata(mdata, modalities={**USUAL, "protein": "counts"})


def test_a_modality_that_the_usual_call_leaves_out_is_named_with_the_call_that_includes_it(
    make_screen: Callable[..., MuData],
) -> None:
    mdata = make_screen(n_proteins=8)
    mdata["protein"].layers["counts"] = mdata["protein"].X.copy()
    profile = make_screen(seed=1)["image"]
    del profile.obsm["single_cell_images"]
    mdata = pp.build_mudata(**mdata.mod, profile=profile)
    with pytest.warns(
        UserWarning, match=r"PETRI reads \['image', 'rna'\] .* leaves out \['protein', 'profile'\]"
    ) as found:
        PETRI.setup_mudata(mdata)
    words = str(found[0].message)
    call = words[words.index("PETRI.setup_mudata(") : words.index("; to leave")]
    eval(call, {"PETRI": PETRI, "Kind": Kind, "mdata": mdata})
    registered = PETRI(mdata).registry_["setup_args"]["modalities"]
    assert {name: kind["kind"] for name, kind in registered.items()} == {
        **USUAL,
        "protein": "counts",
        "profile": "features",
    }
    assert registered["profile"]["obsm"] == "true_morphology"
    without = words[words.rindex("modalities=") + len("modalities=") : -1]
    PETRI.setup_mudata(mdata, modalities=eval(without))
    assert list(PETRI(mdata).registry_["setup_args"]["modalities"]) == ["image", "rna"]


def test_a_modality_that_is_left_out_on_purpose_is_not_named(make_screen: Callable[..., MuData]) -> None:
    mdata = make_screen()
    PETRI.setup_mudata(mdata, modalities={"rna_layer": None})
    mdata = make_screen(n_proteins=8)
    mdata["rna"].X = np.log1p(mdata["rna"].X.toarray())
    mdata["protein"].X = np.asarray(mdata["protein"].X > 3, dtype=np.float32)
    with pytest.warns(UserWarning, match=r"\{'rna': 'continuous', 'protein': 'binary'\}\)"):
        PETRI.setup_mudata(mdata, modalities={"images_key": None})
    baselines.PCAExpression.setup_mudata(mdata)
