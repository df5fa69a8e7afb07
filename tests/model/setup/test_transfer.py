"""Data that a model is applied to after its setup."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

IMAGES = "single_cell_images"
CODES = "_scvi_petri_context"


def test_a_mudata_that_is_not_set_up_is_embedded(trained_model, screen):
    assert CODES not in screen["rna"].obs
    np.testing.assert_array_equal(
        trained_model.get_latent_representation(screen), trained_model.get_latent_representation()
    )
    for name in ("image", "rna"):
        assert screen[name].obs[CODES].tolist() == trained_model.adata[name].obs[CODES].tolist()


@pytest.mark.parametrize("modality", ["image", "rna"])
def test_data_of_one_modality_is_embedded(trained_model, make_screen, combine, modality):
    new = make_screen(seed=2)
    together = trained_model.get_latent_representation(new, modality=modality)
    alone = combine(**{modality: make_screen(seed=2)[modality]})
    np.testing.assert_array_equal(trained_model.get_latent_representation(alone), together)


def test_data_of_a_model_of_one_modality_may_have_more(screen, make_screen, build, combine):
    model = build(combine(rna=screen["rna"]))
    model.is_trained = True
    new = make_screen()
    new["image"].obsm[IMAGES] = np.empty((240, 3))  # not looked at
    np.testing.assert_array_equal(
        model.get_latent_representation(new, modality="rna"), model.get_latent_representation()
    )


def test_new_contexts_extend_the_code_book_and_keep_old_codes(trained_model, make_screen):
    new = make_screen()
    for name in ("image", "rna"):
        labels = new[name].obs["perturbation"].astype(str).replace({"TARGET05": "AAA", "TARGET06": "ZZZ"})
        new[name].obs["perturbation"] = pd.Categorical(labels, categories=sorted(labels.unique(), reverse=True))
    embedding = trained_model.get_latent_representation(new)
    np.testing.assert_array_equal(embedding, trained_model.get_latent_representation())
    for name in ("image", "rna"):
        old_codes = trained_model.adata[name].obs[CODES].to_numpy()
        codes, labels = new[name].obs[CODES].to_numpy(), new[name].obs["perturbation"].astype(str).to_numpy()
        is_new = np.isin(labels, ["AAA", "ZZZ"])
        np.testing.assert_array_equal(codes[~is_new], old_codes[~is_new])
        assert set(codes[labels == "AAA"]) == {8}
        assert set(codes[labels == "ZZZ"]) == {9}
    fused = trained_model.get_latent_representation(new, position="set_transformer")
    assert np.isfinite(fused).all()


def test_categories_in_another_order_keep_their_codes(trained_model, screen):
    for name in ("image", "rna"):
        obs = screen[name].obs
        obs["perturbation"] = obs["perturbation"].cat.reorder_categories(obs["perturbation"].cat.categories[::-1])
    trained_model.get_latent_representation(screen)
    for name in ("image", "rna"):
        assert screen[name].obs[CODES].tolist() == trained_model.adata[name].obs[CODES].tolist()


def test_channels_are_found_by_name_wherever_they_lie(trained_model, screen):
    image = screen["image"]
    order = [4, 2, 0, 1, 3]
    extra = np.full((240, 1, 16, 16), 9, dtype=np.uint16)
    image.obsm[IMAGES] = np.concatenate([extra, image.obsm[IMAGES][:, order]], axis=1)
    image.uns["channel_names"] = ["segmentation", *(image.uns["channel_names"][i] for i in order)]
    np.testing.assert_array_equal(
        trained_model.get_latent_representation(screen), trained_model.get_latent_representation()
    )


def _refused_genes(trained_model, screen, combine, refused, rna, *words):
    mdata = combine(image=screen["image"], rna=rna)
    fix = "Call mdata = model.prepare_query_mudata(mdata, model), which"
    with refused(ValueError, "the genes of mdata['rna'] are not those of the model", *words, fix, untouched=(mdata,)):
        trained_model.get_latent_representation(mdata)


def test_missing_genes_are_refused(trained_model, screen, combine, refused):
    rna = screen["rna"][:, 2:].copy()
    words = ("2 genes of the model are missing", "'TARGET01'", "masks them")
    _refused_genes(trained_model, screen, combine, refused, rna, *words)


def test_more_genes_are_refused(trained_model, make_screen, combine, refused):
    rna = make_screen(n_genes=50)["rna"]
    expected = trained_model.get_var_names()["rna"]
    rna = rna[:, [*expected, *rna.var_names.difference(expected)[:2]]].copy()
    _refused_genes(trained_model, make_screen(), combine, refused, rna, "it has 42 genes where the model has 40")


def test_genes_in_another_order_are_refused_and_the_named_fix_works(trained_model, screen, combine, refused):
    rna = screen["rna"][:, ::-1].copy()
    _refused_genes(trained_model, screen, combine, refused, rna, "the genes are in another order")
    mended = trained_model.prepare_query_mudata(combine(image=screen["image"], rna=rna), trained_model)
    np.testing.assert_allclose(
        trained_model.get_latent_representation(mended), trained_model.get_latent_representation(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images: images[:, :, :8], ("8 x 16 pixels", "built for 16 x 16", "Cut the crops again")),
        (
            lambda images: images.astype(np.float32),
            ("dtype float32", "built for uint16", "rescale", "images.astype('uint16')"),
        ),
        (lambda images: images[:, 0], ("shape (240, 16, 16)", "images[:, None]")),
        (lambda images: images[:, :4], ("'channel_names'", "its crops have 4 channels", "one unique name per channel")),
    ],
    ids=["size", "dtype", "axes", "number of channels"],
)
def test_other_images_are_refused(trained_model, screen, refused, change, words):
    screen["image"].obsm[IMAGES] = change(screen["image"].obsm[IMAGES])
    with refused(ValueError, *words, untouched=(screen,)):
        trained_model.get_latent_representation(screen)


def test_other_channels_are_refused(trained_model, screen, refused):
    screen["image"].uns["channel_names"] = ["nucleus", "cell_body", "lipid_droplets", "mitochondria", "tubulin"]
    with refused(ValueError, "lacks ['actin']", "'tubulin'", "uns['channel_names']", untouched=(screen,)):
        trained_model.get_latent_representation(screen)


def test_values_that_are_not_counts_are_refused_and_leave_no_trace(trained_model, screen, refused):
    screen["rna"].X = screen["rna"].X.log1p()
    for _ in range(2):
        with refused(ValueError, "not whole numbers", "models counts", untouched=(screen,)):
            trained_model.get_latent_representation(screen)


def test_nan_is_called_nan(trained_model, screen, refused):
    counts = screen["rna"].X.toarray()
    counts[0, 0] = np.nan
    screen["rna"].X = sparse.csr_matrix(counts)
    with refused(ValueError, "1 NaN or infinite values", untouched=(screen,)):
        trained_model.get_latent_representation(screen)


def test_contexts_are_needed_for_new_data_too(trained_model, screen, refused):
    del screen["rna"].obs["perturbation"]
    with refused(KeyError, "'perturbation' is not a column of mdata['rna'].obs", untouched=(screen,)):
        trained_model.get_latent_representation(screen)


def test_data_without_a_known_modality_is_refused(trained_model, screen, combine, refused):
    mdata = combine(atac=screen["rna"])
    with refused(ValueError, "['atac']", "the model knows ['image', 'rna']", "build_mudata", untouched=(mdata,)):
        trained_model.get_latent_representation(mdata)
