from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scvi
from anndata import AnnData
from scipy import sparse

from petri_scvi import PETRI

CODES = "_scvi_petri_context"


def test_defaults_fit_the_synthetic_screen_and_copy_nothing(screen):
    images, counts = screen["image"].obsm["single_cell_images"], screen["rna"].X
    PETRI.setup_mudata(screen)
    assert screen["image"].obsm["single_cell_images"] is images
    assert screen["rna"].X is counts
    assert screen["image"].obs[CODES].dtype == screen["rna"].obs[CODES].dtype == np.int64


def test_one_code_means_one_context_in_both_modalities(screen):
    """The category sets and their order differ; pandas' own codes would name other contexts."""
    for name, dropped in [("image", "TARGET01"), ("rna", "TARGET02")]:
        obs = screen[name].obs
        values = obs["perturbation"].astype(str).replace(dropped, "TARGET03")
        categories = sorted(values.unique(), reverse=name == "rna")
        obs["perturbation"] = pd.Categorical(values, categories=categories)
    with pytest.warns(UserWarning, match="2 contexts were measured in one modality only"):
        PETRI.setup_mudata(screen)
    pairs = {
        (code, label)
        for name in ("image", "rna")
        for code, label in zip(screen[name].obs[CODES], screen[name].obs["perturbation"].astype(str), strict=True)
    }
    assert len(pairs) == len({code for code, _ in pairs}) == len({label for _, label in pairs}) == 8


def test_several_columns_define_the_context_together(screen, build):
    for name in ("image", "rna"):
        screen[name].obs["stimulus"] = np.where(np.arange(screen[name].n_obs) % 2, "interferon", "none")
    model = build(screen, {"context_key": ["target_gene", "stimulus"]})
    categories = model.registry_["field_registries"]["context_image"]["state_registry"]["categories"]
    assert len(categories) == 16
    for name in ("image", "rna"):
        obs = screen[name].obs
        assert (obs["target_gene"].astype(str) + " | " + obs["stimulus"].astype(str)).tolist() == [
            categories[code] for code in obs[CODES]
        ]


def test_columns_that_contain_the_separator_make_contexts_of_their_own(screen):
    """Joined without care, ("x | y", "z") and ("x", "y | z") would be one context."""
    for name in ("image", "rna"):
        is_even = np.arange(screen[name].n_obs) % 2 == 0
        screen[name].obs["drug"] = np.where(is_even, "x | y", "x")
        screen[name].obs["stimulus"] = np.where(is_even, "z", "y | z")
    PETRI.setup_mudata(screen, context_key=["drug", "stimulus"])
    for name in ("image", "rna"):
        codes = screen[name].obs[CODES].to_numpy()
        assert codes[:2].tolist() * (len(codes) // 2) == codes[: len(codes) // 2 * 2].tolist()
        assert codes[0] != codes[1]


@pytest.mark.parametrize(
    ("image_channels", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        (["actin", "nucleus"], [4, 0]),
        ([3, 1], [3, 1]),
        (["cell_body", 2], [1, 2]),
        ([np.int64(4)], [4]),
    ],
)
def test_channels_are_used_in_the_order_asked_for(screen, build, image_channels, expected):
    model = build(screen, {"image_channels": image_channels})
    names = screen["image"].uns["channel_names"]
    assert model.get_var_names()["image"].tolist() == [names[position] for position in expected]
    rows = np.array([5, 2, 5])
    np.testing.assert_array_equal(
        model._readers(model.adata_manager)["image"].read(rows),
        screen["image"].obsm["single_cell_images"][rows][:, expected],
    )


def test_channels_without_names_are_called_by_position(screen, build):
    del screen["image"].uns["channel_names"]
    assert build(screen, {"image_channels": ["2", 0]}).get_var_names()["image"].tolist() == ["2", "0"]


def test_channel_names_of_scportrait_are_found(screen, build, combine):
    image = screen["image"]
    names = ["seg_nucleus", "seg_cytosol", "dapi", "actin", "golgi"]
    var = pd.DataFrame({"channels": names}, index=list("01234"))
    portrait = AnnData(sparse.csr_matrix((image.n_obs, 5)), obs=image.obs, var=var, obsm=image.obsm)
    model = build(combine(image=portrait, rna=screen["rna"]), {"image_channels": ["dapi", "golgi"]})
    assert model._readers(model.adata_manager)["image"].positions == [2, 4]


def test_counts_layer_is_preferred_to_x_and_a_named_layer_to_both(screen, build):
    rna = screen["rna"]
    rna.layers["counts"], rna.layers["doubled"] = rna.X.copy(), rna.X * 2
    rna.X = np.log1p(rna.X)
    model = build(screen)
    assert model._readers(model.adata_manager)["rna"].read(np.arange(9)).sum() == rna.layers["counts"][:9].sum()
    model = build(screen, {"rna_layer": "doubled"})
    assert model._readers(model.adata_manager)["rna"].read(np.arange(9)).sum() == rna.layers["doubled"][:9].sum()


def test_modalities_may_have_other_names(screen, fit, combine):
    mdata = combine(painting=screen["image"], transcriptome=screen["rna"])
    model = fit(mdata, {"modalities": {"images_key": "painting", "rna_layer": "transcriptome"}})
    assert set(model.history) == {
        f"{part}_loss{name}" for part in ("train", "validation") for name in ("", "_painting", "_transcriptome")
    }
    assert model.get_latent_representation(modality="painting").shape == (240, 16)


@pytest.mark.parametrize("modality", ["image", "rna"])
def test_one_modality_alone_trains_and_embeds(screen, fit, combine, modality):
    model = fit(combine(**{modality: screen[modality]}))
    assert list(model.module.modalities) == [modality]
    assert set(model.history) == {
        "train_loss",
        "validation_loss",
        f"train_loss_{modality}",
        f"validation_loss_{modality}",
    }
    embedding = model.get_latent_representation()
    assert embedding.shape == (screen[modality].n_obs, 16)
    np.testing.assert_array_equal(embedding, model.get_latent_representation(modality=modality))


def test_a_modality_set_to_none_is_left_out(screen, build):
    model = build(screen, {"modalities": {"rna_layer": None}})
    assert list(model.module.modalities) == ["image"]
    assert CODES not in screen["rna"].obs


def test_order_of_modalities_changes_no_embedding(make_screen, fit, combine):
    first = make_screen()
    second = combine(rna=make_screen()["rna"], image=make_screen()["image"])
    embeddings = []
    for mdata in (first, second):
        scvi.settings.seed = 0
        embedding = pd.DataFrame(fit(mdata).get_latent_representation(), index=mdata.obs_names)
        embeddings.append(embedding)
    assert first.obs_names.tolist() != second.obs_names.tolist()
    pd.testing.assert_frame_equal(embeddings[0], embeddings[1].loc[first.obs_names], check_exact=True)


def test_setup_anndata_names_setup_mudata(screen):
    with pytest.raises(NotImplementedError, match=r"build_mudata.*PETRI\.setup_mudata"):
        PETRI.setup_anndata(screen["rna"])
    with pytest.raises(NotImplementedError, match="setup_mudata"):
        PETRI.setup_anndata(screen)


def test_anndata_where_a_mudata_is_needed_is_refused(screen, trained_model, refused):
    with refused(TypeError, "expected a MuData, found AnnData", "build_mudata"):
        PETRI.setup_mudata(screen["rna"])
    with refused(TypeError, "expected a MuData, found AnnData", "build_mudata"):
        trained_model.get_latent_representation(screen["rna"])
    assert CODES not in screen["rna"].obs


def test_view_anndata_setup_prints_what_was_registered(trained_model, capsys):
    trained_model.view_anndata_setup()
    printed = capsys.readouterr().out
    for fact in ("single_cell_images", "n_rna_cells", "228", "nucleus", "TARGET01", "_scvi_petri_context", "uint16"):
        assert fact in printed


def test_setup_of_a_view_is_refused_and_its_copy_trains(screen, fit, refused):
    view = screen[np.arange(0, screen.n_obs, 3)]
    with refused(ValueError, ".copy()", untouched=(screen,)):
        PETRI.setup_mudata(view)
    copy = view.copy()
    assert fit(copy).get_latent_representation().shape == (156, 16)


def test_two_models_share_a_mudata_without_taking_each_others_contexts(screen, build, quiet):
    by_target = build(screen)
    by_guide = build(screen, {"context_key": "guide"})
    for model, key in [(by_target, "perturbation"), (by_guide, "guide"), (by_target, "perturbation")]:
        model.train(max_epochs=1, **quiet)
        codes = screen["image"].obs[CODES]
        assert codes.nunique() == screen["image"].obs[key].nunique()


def test_contexts_of_one_modality_only_are_announced_with_numbers_and_train(screen, fit, combine):
    image, rna = screen["image"], screen["rna"]
    lacking = ["TARGET01", "TARGET02"]
    mdata = combine(
        image=image[image.obs["perturbation"] != "TARGET03"].copy(),
        rna=rna[~rna.obs["perturbation"].isin(lacking)].copy(),
    )
    words = r"3 contexts were measured in one modality only \(7 in mdata\['image'\], 6 in mdata\['rna'\], 5 in common\)"
    with pytest.warns(UserWarning, match=words):
        model = fit(mdata, n_contexts_per_minibatch=2, n_cells_per_context=4)
    # A minibatch without images has no weight in the mean loss of images.
    image, rna = (model.history[f"train_loss_{name}"].iloc[0].item() for name in ("image", "rna"))
    assert image > 0.8 > 0.7 > rna > 0.3
    assert np.isfinite(model.get_latent_representation()).all()
    loader = model.trainer.datamodule.train_dataloader()
    assert {tuple(minibatch["cells"]) for minibatch in loader} == {("image", "rna"), ("image",), ("rna",)}
