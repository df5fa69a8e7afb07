"""Each mistake is refused with what was found, what is accepted and what to do; and nothing is half-written."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from petri_scvi import PETRI, pp

KEY = "single_cell_images"


def _with_images(screen, images):
    screen["image"].obsm[KEY] = images


def _with_counts(screen, change):
    counts = screen["rna"].X.toarray()
    change(counts)
    screen["rna"].X = sparse.csr_matrix(counts)


def test_missing_modality(screen, combine, refused):
    mdata = combine(painting=screen["image"], rna=screen["rna"])
    words = ("'image' is not in mdata.mod", "['painting', 'rna']", "modalities={'images_key': 'painting'}")
    with refused(KeyError, *words, untouched=(mdata,)):
        PETRI.setup_mudata(mdata)


def test_unknown_argument_in_modalities(screen, refused):
    with refused(ValueError, "['counts']", "or the setup arguments ['images_key', 'rna_layer']", untouched=(screen,)):
        PETRI.setup_mudata(screen, modalities={"counts": "rna"})


def test_every_modality_left_out(screen, refused):
    with refused(ValueError, "no modality is left", "name at least one", untouched=(screen,)):
        PETRI.setup_mudata(screen, modalities={"images_key": None, "rna_layer": None})


def test_missing_images(screen, refused):
    words = ("images_key='crops' is not in mdata['image'].obsm", KEY, "(n_cells, C, H, W)")
    with refused(KeyError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen, images_key="crops")


def test_missing_layer(screen, refused):
    screen["rna"].layers["umis"] = screen["rna"].X
    words = ("rna_layer='counts' is not in mdata['rna'].layers", "['umis']", "None for X")
    with refused(KeyError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen, rna_layer="counts")


@pytest.mark.parametrize("modality", ["image", "rna"])
def test_missing_context_column(screen, refused, modality):
    del screen[modality].obs["perturbation"]
    words = ("'perturbation' is not a column", f"mdata[{modality!r}].obs", "'guide'", "Name the column")
    with refused(KeyError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen)


def test_columns_of_one_name(screen, refused):
    obs = screen["rna"].obs
    screen["rna"].obs = pd.concat([obs, obs[["perturbation"]]], axis=1)
    with refused(ValueError, "mdata['rna'].obs has 2 columns named 'perturbation'"):
        PETRI.setup_mudata(screen)


def test_contexts_that_are_words_for_missing_values_are_pointed_out(screen):
    labels = screen["rna"].obs["perturbation"].astype(str)
    screen["rna"].obs["perturbation"] = labels.where(labels != "TARGET01", "nan")
    n_cells = int((labels == "TARGET01").sum())
    with (
        pytest.warns(
            UserWarning, match=rf"{n_cells} rows of mdata\['rna'\].obs\['perturbation'\] have the label 'nan'"
        ),
        pytest.warns(UserWarning, match="2 contexts were measured in one modality only"),
    ):
        PETRI.setup_mudata(screen)


def test_contexts_that_are_numbers_are_the_same_whatever_their_type(screen):
    for name, dtype in (("image", int), ("rna", float)):
        codes = pd.Categorical(screen[name].obs["perturbation"]).codes
        screen[name].obs["perturbation"] = codes.astype(dtype)
    PETRI.setup_mudata(screen)  # would warn of, or refuse, contexts of one modality only


def test_no_context_column(screen, refused):
    with refused(ValueError, "context_key is empty", "for example 'perturbation'", untouched=(screen,)):
        PETRI.setup_mudata(screen, context_key=[])


@pytest.mark.parametrize("modality", ["image", "rna"])
def test_missing_contexts(screen, refused, modality):
    screen[modality].obs.loc[screen[modality].obs_names[:7], "perturbation"] = np.nan
    words = (f"mdata[{modality!r}].obs['perturbation'] is missing for 7 of", "Drop these cells or name their context")
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen)


def test_nan_counts(screen, refused):
    def change(counts):
        counts[3, :2] = np.nan
        counts[4, 0] = np.inf

    _with_counts(screen, change)
    with refused(ValueError, "mdata['rna'].X has 3 NaN or infinite values", "Replace them", untouched=(screen,)):
        PETRI.setup_mudata(screen)


def test_negative_counts(screen, refused):
    def change(counts):
        counts[3, :4] = -1

    _with_counts(screen, change)
    words = ("mdata['rna'].X has 4 negative values", "expected counts, or log-normalised values", "rna_layer='counts'")
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen)


def test_cells_without_counts(screen, refused):
    def change(counts):
        counts[[1, 50]] = 0

    _with_counts(screen, change)
    words = ("2 of 228 cells without any count", "scanpy.pp.filter_cells(mdata['rna'], min_counts=1)")
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen)


def test_values_that_are_not_counts_fit_the_normal_likelihood_only(screen, tiny, quiet, refused):
    screen["rna"].X = screen["rna"].X.log1p()
    PETRI.setup_mudata(screen)
    words = (
        "mdata['rna'] has values that are not whole numbers",
        "for example 1.386",
        "models counts",
        "rna_layer='counts'",
        "'normal'",
    )
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI(screen, **tiny)
    model = PETRI(screen, expression_likelihood="normal", **tiny)
    model.train(max_epochs=1, **quiet)
    assert np.isfinite(model.get_latent_representation()).all()


def test_no_expression(screen, combine, refused):
    mdata = combine(rna=AnnData(obs=screen["rna"].obs))
    with refused(ValueError, "mdata['rna'].X is empty", "(n_cells, n_genes)", "rna_layer=", untouched=(mdata,)):
        PETRI.setup_mudata(mdata)


def test_images_without_channel_axis(screen, refused):
    _with_images(screen, screen["image"].obsm[KEY][:, 0])
    words = (f"mdata['image'].obsm['{KEY}'] has shape (240, 16, 16)", "(n_cells, C, H, W)", "images[:, None]")
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen)


def test_empty_images(screen, refused):
    _with_images(screen, screen["image"].obsm[KEY][:, :0])
    words = ("is empty: its shape is (240, 0, 16, 16)", "must be at least 1")
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen)


def test_modality_without_cells(screen, combine, refused):
    mdata = combine(image=screen["image"][:0].copy(), rna=screen["rna"])
    with refused(ValueError, "is empty: its shape is (0, 5, 16, 16)", untouched=(mdata,)):
        PETRI.setup_mudata(mdata)


def test_images_that_are_not_numbers(screen, refused):
    _with_images(screen, screen["image"].obsm[KEY] > 9)
    with refused(ValueError, "has dtype bool", "uint8, uint16", "astype('uint8')", untouched=(screen,)):
        PETRI.setup_mudata(screen)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite(screen, refused, value):
    images = screen["image"].obsm[KEY].astype(np.float32)
    images[[3, 3, 77], 0, [0, 1, 0], 0] = value
    _with_images(screen, images)
    with refused(ValueError, "NaN or infinite pixels in 2 of 240 cells", "numpy.nan_to_num", untouched=(screen,)):
        PETRI.setup_mudata(screen)


@pytest.mark.parametrize("height", [12, 13])
def test_images_that_cannot_be_cut_into_patches(screen, tiny, refused, height):
    _with_images(screen, screen["image"].obsm[KEY][:, :, :height])
    PETRI.setup_mudata(screen)
    fitting = "here [2, 4]" if height == 12 else "crop or pad the images first"
    words = (f"crops of {height} x 16 pixels cannot be cut into patches of 8 x 8", "divides both", fitting)
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI(screen, **tiny)


@pytest.mark.parametrize("channel", ["dapi", 5, -1, True, 1.0])
def test_unknown_channel(screen, refused, channel):
    words = (f"channel {channel!r} is not in mdata['image']", "'nucleus'", "Pass some of these names")
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen, image_channels=["actin", channel])


def test_no_channel(screen, refused):
    with refused(ValueError, "image_channels is empty", "'nucleus'", "None for all", untouched=(screen,)):
        PETRI.setup_mudata(screen, image_channels=[])


def test_a_channel_named_twice(screen, refused):
    words = ("image_channels names a channel twice: ['actin', 'nucleus', 'actin']", "Name each once")
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen, image_channels=["actin", 0, 4])


def test_channels_as_one_string(screen, refused):
    with refused(ValueError, "image_channels='actin' is one string", "pass a list", untouched=(screen,)):
        PETRI.setup_mudata(screen, image_channels="actin")


@pytest.mark.parametrize("names", [["a", "b"], list("aabcd")])
def test_channel_names_that_do_not_fit(screen, refused, names):
    screen["image"].uns["channel_names"] = names
    words = (
        f"mdata['image'].uns['channel_names'] is {names}",
        "its crops have 5 channels",
        "one unique name per channel",
    )
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen)


def test_modalities_that_share_no_context(screen, refused):
    screen["rna"].obs["perturbation"] = "sg" + screen["rna"].obs["perturbation"].astype(str)
    words = (
        "share no context",
        "8 in mdata['image'], 8 in mdata['rna'], none in common; for example 'TARGET01' and 'sgTARGET01'",
        "Use the same names",
        "{'rna_layer': None}",
    )
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen)


def test_contexts_of_a_single_cell_each(screen, refused):
    screen["rna"].obs["perturbation"] = screen["rna"].obs_names
    words = (
        "every cell of mdata['rna'] has a context of its own",
        "228 values in 228 cells",
        "Name a column that cells share",
    )
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI.setup_mudata(screen)


def test_cells_of_one_name_in_both_modalities(screen, combine, refused, build):
    for name in ("image", "rna"):
        screen[name].obs_names = [str(i) for i in range(screen[name].n_obs)]
    mdata = combine(**screen.mod)
    words = (
        "228 cells of mdata['rna'] and mdata['image'] have the same name",
        "'0'",
        "pp.build_mudata",
        "is_paired=True",
    )
    with refused(ValueError, *words, untouched=(mdata,)):
        PETRI.setup_mudata(mdata)
    mended = pp.build_mudata(**mdata.mod)
    assert mended.n_obs == 468
    assert mended["image"].obsm["true_morphology"].index.tolist() == mended["image"].obs_names.tolist()
    build(mended)


@pytest.mark.parametrize("is_paired", [False, True])
def test_cells_of_one_name_in_one_modality(screen, combine, refused, is_paired):
    rna = screen["rna"].copy()
    rna.obs_names = ["cell"] * rna.n_obs
    with pytest.warns(UserWarning, match="not unique"):
        mdata = combine(image=screen["image"], rna=rna)
    words = ("mdata['rna'].obs_names are not unique", "mdata['rna'].obs_names_make_unique()")
    with refused(ValueError, *words, untouched=(mdata,)):
        PETRI.setup_mudata(mdata, is_paired=is_paired)


def test_a_paired_cell_of_two_contexts(screen, combine, refused):
    rna = screen["rna"][:200].copy()
    rna.obs_names = screen["image"].obs_names[:200]
    rna.obs["perturbation"] = screen["image"].obs["perturbation"].iloc[:200].to_numpy()
    rna.obs["perturbation"] = rna.obs["perturbation"].where(np.arange(200) != 7, "TARGET99")
    mdata = combine(image=screen["image"], rna=rna)
    words = ("1 of 200 cells that are in mdata['image'] and in mdata['rna']", "Give a cell one context", "build_mudata")
    with refused(ValueError, *words, untouched=(mdata,)):
        PETRI.setup_mudata(mdata, is_paired=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"embed_dim": 18}, ("embed_dim=18", "multiple of 4", "heads, n_heads=2; pass embed_dim=16 or embed_dim=20")),
        ({"embed_dim": 50, "n_heads": None}, ("pass embed_dim=48 or embed_dim=52", "number of heads follows")),
        (
            {"image_decoder_dim": 6},
            (
                "image_decoder_dim=6",
                "multiple of 4",
                "heads, n_heads=2; pass image_decoder_dim=4 or image_decoder_dim=8",
            ),
        ),
        ({"n_heads": 3}, ("embed_dim=16", "n_heads=3")),
        ({"n_latent_tokens": 0}, ("n_latent_tokens=0", "at least 1")),
        ({"patch_size": 0}, ("patch_size=0", "at least 1")),
        ({"image_encoder_depth": 0}, ("image_encoder_depth=0", "at least 1")),
        ({"expression_encoder_depth": -1}, ("expression_encoder_depth=-1", "at least 1")),
        ({"set_transformer_depth": -1}, ("set_transformer_depth=-1", "at least 0")),
        ({"mask_ratio": 1.0}, ("mask_ratio=1.0", "[0, 1)")),
        ({"mask_ratio": 0.0}, ("hides none of the 4 tokens of a cell of 'image'", "larger mask_ratio")),
        ({"patch_size": 16}, ("mask_ratio=0.75 hides none of the 1 tokens", "smaller patch_size")),
        ({"mask_ratio": -0.1}, ("mask_ratio=-0.1", "[0, 1)")),
        ({"image_intensity_jitter": -1.0}, ("intensity_jitter=-1.0", "at least 0")),
        ({"expression_likelihood": "zinb"}, ("'zinb'", "'nb' or 'normal'")),
    ],
)
def test_constructor_arguments_out_of_range(screen, tiny, refused, arguments, words):
    PETRI.setup_mudata(screen)
    with refused(ValueError, *words, untouched=(screen,)):
        PETRI(screen, **{**tiny, **arguments})


def test_a_model_needs_a_registered_mudata(screen, tiny, refused):
    with refused(ValueError, "set up", untouched=(screen,)):
        PETRI(screen, **tiny)
    with pytest.raises(TypeError, match="n_latent"):
        PETRI(screen, n_latent=8)


def test_a_failed_setup_leaves_an_earlier_one_in_force(screen, build, quiet, refused):
    model = build(screen)
    for name in ("image", "rna"):
        screen[name].obs["cell"] = screen[name].obs_names
    with refused(ValueError, "has a context of its own", untouched=(screen,)):
        PETRI.setup_mudata(screen, context_key="cell")
    model.train(max_epochs=1, **quiet)
    assert screen["rna"].obs["_scvi_petri_context"].nunique() == 8


def test_a_view_is_refused_with_the_copy_that_works(screen, build, refused):
    some = screen[::2]
    with refused(ValueError, f"a view of {some.n_obs} cells", "mdata = mdata.copy()"):
        PETRI.setup_mudata(some)
    some = some.copy()
    build(some)
