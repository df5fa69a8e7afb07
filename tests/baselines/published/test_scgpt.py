"""scGPT's published files are read, and its results equal those of a second implementation."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn.functional import layer_norm

from petri_scvi import pp
from petri_scvi.baselines import ScGPT
from petri_scvi.baselines.published._scgpt_tokens import bin_values, make_tokens, match_genes

D, HEADS, LAYERS, HIDDEN = 16, 4, 2, 24
FLASH, TORCH = "Wqkv.", "in_proj_"
SETTINGS = {"embsize": D, "nheads": HEADS, "nlayers": LAYERS, "d_hid": HIDDEN, "pad_token": "<pad>", "pad_value": -2}
SPECIAL = {"cls": 1, "pad": 0, "pad_value": -2.0}


def random_weights(n_tokens):
    """Weights by their names in torch's layout, large enough that every part matters."""
    torch.manual_seed(1)
    shapes = {
        "encoder.embedding.weight": (n_tokens, D),
        "encoder.enc_norm.weight": (D,),
        "encoder.enc_norm.bias": (D,),
        "value_encoder.linear1.weight": (D, 1),
        "value_encoder.linear1.bias": (D,),
        "value_encoder.linear2.weight": (D, D),
        "value_encoder.linear2.bias": (D,),
        "value_encoder.norm.weight": (D,),
        "value_encoder.norm.bias": (D,),
        "decoder.fc.0.weight": (D, D),  # the published file has decoders too
    }
    for i in range(LAYERS):
        block = {
            "self_attn.in_proj_weight": (3 * D, D),
            "self_attn.in_proj_bias": (3 * D,),
            "self_attn.out_proj.weight": (D, D),
            "self_attn.out_proj.bias": (D,),
            "linear1.weight": (HIDDEN, D),
            "linear1.bias": (HIDDEN,),
            "linear2.weight": (D, HIDDEN),
            "linear2.bias": (D,),
            "norm1.weight": (D,),
            "norm1.bias": (D,),
            "norm2.weight": (D,),
            "norm2.bias": (D,),
        }
        shapes |= {f"transformer_encoder.layers.{i}.{name}": shape for name, shape in block.items()}
    return {name: torch.randn(shape) * 0.5 for name, shape in shapes.items()}


def written_out(weights, tokens, values, is_padding):
    """The forward pass, one formula after the other; shapes (B, T) -> (B, D)."""

    def linear(x, name, bias="bias", weight="weight"):
        return x @ weights[f"{name}{weight}"].T + weights[f"{name}{bias}"]

    def norm(x, name):
        return layer_norm(x, (D,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = norm(weights["encoder.embedding.weight"][tokens], "encoder.enc_norm")
    v = torch.relu(linear(values.unsqueeze(-1), "value_encoder.linear1."))
    x = x + norm(linear(v, "value_encoder.linear2."), "value_encoder.norm")
    n, length, _ = x.shape
    for i in range(LAYERS):
        at = f"transformer_encoder.layers.{i}."
        projected = linear(x, f"{at}self_attn.in_proj_").reshape(n, length, 3, HEADS, D // HEADS)
        q, k, v = projected.permute(2, 0, 3, 1, 4)  # (B, heads, T, D / heads)
        scores = q @ k.transpose(-1, -2) / (D // HEADS) ** 0.5
        attention = scores.masked_fill(is_padding[:, None, None, :], -torch.inf).softmax(dim=-1)
        mixed = (attention @ v).transpose(1, 2).reshape(n, length, D)
        x = norm(x + linear(mixed, f"{at}self_attn.out_proj."), f"{at}norm1")
        x = norm(x + linear(torch.relu(linear(x, f"{at}linear1.")), f"{at}linear2."), f"{at}norm2")
    return x[:, 0]


@pytest.fixture
def make_checkpoint(screen, tmp_path):
    def make(genes=None, layout=FLASH, name="model", **settings):
        folder = tmp_path / name
        folder.mkdir()
        genes = list(screen["rna"].var_names[5:]) if genes is None else genes
        vocabulary = {symbol: i for i, symbol in enumerate(["<pad>", "<cls>", "<eoc>", "UNSEEN", *genes])}
        weights = random_weights(len(vocabulary))
        saved = {key.replace("self_attn." + TORCH, "self_attn." + layout): w for key, w in weights.items()}
        (folder / "args.json").write_text(json.dumps({**SETTINGS, **settings}))
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        torch.save(saved, folder / "best_model.pt")
        return folder

    return make


@pytest.fixture
def model(screen, make_checkpoint):
    ScGPT.setup_mudata(screen)
    return ScGPT(screen, make_checkpoint(), accelerator="cpu")


def test_both_attention_layouts_give_the_same_embedding(screen, make_checkpoint):
    ScGPT.setup_mudata(screen)
    found = [
        ScGPT(screen, make_checkpoint(layout=layout, name=layout), accelerator="cpu").get_latent_representation()
        for layout in (FLASH, TORCH)
    ]
    assert "Wqkv" in "".join(torch.load(make_checkpoint(layout=FLASH) / "best_model.pt"))
    np.testing.assert_array_equal(*found)


def test_embedding_is_the_written_out_transformer_at_the_cell_token(screen, model):
    rows = np.arange(30)
    counts = screen["rna"].X[:30].toarray()[:, 5:].astype(float)
    assert (counts == 0).any(axis=1).all()
    assert len(set((counts > 0).sum(axis=1))) > 1  # so that some cells are padded
    genes = np.arange(4, 4 + counts.shape[1])
    tokens, values = make_tokens(counts, genes, special=SPECIAL, n_bins=51, max_length=1200, seed=0)
    expected = written_out(random_weights(4 + len(genes)), tokens, values, tokens == 0)
    expected = expected / expected.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(model.get_latent_representation(indices=rows), expected.numpy(), atol=1e-5)


def test_embeddings_have_length_one_and_differ_between_cells(model):
    embedding = model.get_latent_representation()
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
    assert embedding.std(axis=0).min() > 1e-3


def test_order_of_cells_and_batches_do_not_change_a_cells_embedding(model):
    every = model.get_latent_representation(batch_size=100)
    np.testing.assert_allclose(
        model.get_latent_representation(indices=[9, 4, 4], batch_size=2), every[[9, 4, 4]], atol=1e-5
    )
    np.testing.assert_allclose(model.get_latent_representation(batch_size=7), every, atol=1e-5)


def test_a_long_cell_has_the_same_embedding_in_any_subset_and_order(screen, make_checkpoint):
    ScGPT.setup_mudata(screen)
    model = ScGPT(screen, make_checkpoint(), max_length=5, accelerator="cpu")
    n_expressed = (screen["rna"].X.toarray()[:, 5:] > 0).sum(axis=1)
    every = model.get_latent_representation()
    rows = np.flatnonzero(n_expressed > 7)[[12, 3, 7]]  # of which 4 genes are kept
    assert len(np.unique(every[rows], axis=0)) == 3
    new = pp.build_mudata(rna=screen["rna"][rows].copy())
    np.testing.assert_allclose(model.get_latent_representation(new), every[rows], atol=1e-5)


def test_sequencing_depth_cancels_and_genes_outside_the_vocabulary_do_not_count(screen, model):
    expected = model.get_latent_representation()
    screen = screen.copy()
    counts = screen["rna"].X.toarray() * 3
    counts[:, :5] = 77
    screen["rna"].X = sparse.csr_matrix(counts)
    np.testing.assert_allclose(model.get_latent_representation(screen), expected, atol=1e-5)


def test_training_is_not_needed_and_changes_nothing(model):
    before = model.get_latent_representation(indices=range(20))
    model.train()
    np.testing.assert_array_equal(model.get_latent_representation(indices=range(20)), before)


def test_the_users_data_is_not_changed(screen, make_checkpoint, unchanged):
    ScGPT.setup_mudata(screen)
    with unchanged(screen):
        ScGPT(screen, make_checkpoint(), accelerator="cpu").get_latent_representation(indices=range(20))


# Tokens


def test_without_ties_every_bin_takes_the_same_share_of_values(rng):
    values = rng.permutation(np.arange(1, 501)).astype(float)
    bins = bin_values(values, 51, rng)
    assert bins.min() == 1
    assert bins.max() == 50
    assert np.bincount(bins)[1:].max() <= 12
    assert (np.diff(bins[np.argsort(values)]) >= 0).all()


def test_tied_values_spread_over_the_bins_that_they_straddle(rng):
    values = np.array([1.0] * 900 + [2.0] * 100)
    bins = bin_values(values, 51, rng)
    ones, twos = bins[:900], bins[900:]
    assert set(ones) == set(range(1, ones.max() + 1))
    assert ones.max() in (44, 45)  # the edges at 1: nine tenths of 50
    assert twos.min() > ones.max() - 1
    assert twos.max() == 50


def test_long_cells_keep_a_random_part_that_the_seed_decides(rng):
    counts = rng.integers(1, 9, size=(2, 40)).astype(float)
    genes = np.arange(100, 140)

    def tokens_of(seed):
        return make_tokens(counts, genes, special=SPECIAL, n_bins=51, max_length=11, seed=seed)[0].numpy()

    tokens = tokens_of(0)
    assert tokens.shape == (2, 11)
    assert (tokens[:, 0] == 1).all()
    assert set(tokens[0, 1:]) < set(genes)
    assert len(set(tokens[0, 1:])) == 10
    np.testing.assert_array_equal(tokens_of(0), tokens)
    assert (tokens_of(1) != tokens).any()


def test_padding_and_cell_token_carry_the_pad_value():
    counts = np.array([[5.0, 0, 2], [0, 0, 0]])
    tokens, values = make_tokens(counts, np.array([10, 11, 12]), special=SPECIAL, n_bins=51, max_length=9, seed=0)
    assert tokens.tolist() == [[1, 10, 12], [1, 0, 0]]
    assert values[:, 0].tolist() == [-2, -2]
    assert values[1].tolist() == [-2, -2, -2]
    assert values[0, 1] == 50


# Genes


def test_case_is_ignored_only_if_asked_and_the_exact_symbol_wins():
    vocabulary = {"ACTB": 3, "Tp53": 5, "TP53": 4}
    assert match_genes(["Actb", "Tp53", "NONE"], vocabulary, ignore_case=False).tolist() == [-1, 5, -1]
    assert match_genes(["Actb", "Tp53", "NONE"], vocabulary, ignore_case=True).tolist() == [3, 5, -1]


def test_the_report_counts_the_genes_that_matched(model):
    assert "35 of 40 genes are in the vocabulary of 39 tokens" in model._model_summary_string
    assert model.is_matched_.tolist() == [False] * 5 + [True] * 35


def test_symbols_may_lie_in_a_column(screen, make_checkpoint):
    checkpoint = make_checkpoint()
    ScGPT.setup_mudata(screen)
    expected = ScGPT(screen, checkpoint, accelerator="cpu").get_latent_representation(indices=range(20))
    rna = screen["rna"].copy()
    rna.var["symbol"] = rna.var_names
    rna.var_names = [f"ENSG{i:03d}" for i in range(rna.n_vars)]
    mdata = pp.build_mudata(rna=rna)
    ScGPT.setup_mudata(mdata)
    model = ScGPT(mdata, checkpoint, gene_symbols_key="symbol", accelerator="cpu")
    np.testing.assert_allclose(model.get_latent_representation(indices=range(20)), expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"0 of 40 genes are in the vocabulary.*ENSG000.*gene_symbols_key"):
        ScGPT(mdata, checkpoint)
    with pytest.raises(KeyError, match="gene_symbols_key='name' is not a column"):
        ScGPT(mdata, checkpoint, gene_symbols_key="name")


def test_few_matches_are_told(screen, make_checkpoint):
    ScGPT.setup_mudata(screen)
    checkpoint = make_checkpoint(list(screen["rna"].var_names[:10]))
    with pytest.warns(UserWarning, match="10 of 40 genes are in the vocabulary"):
        ScGPT(screen, checkpoint, accelerator="cpu")


def test_the_seed_and_the_device_are_checked(screen, model, make_checkpoint):
    with pytest.raises(ValueError, match="seed=-1; it must be a whole number of at least 0"):
        ScGPT(screen, make_checkpoint(name="another"), seed=-1)
    assert str(model.device) == "cpu"
    with pytest.raises(NotImplementedError, match=r"ScGPT stays on 'cpu'.*accelerator='cuda'"):
        model.to_device("cpu")


def test_cells_without_a_known_gene_are_counted(screen, make_checkpoint):
    counts = screen["rna"].X.toarray()
    counts[[2, 6], 5:] = 0
    counts[[2, 6], 0] = 4
    screen["rna"].X = sparse.csr_matrix(counts)
    ScGPT.setup_mudata(screen)
    model = ScGPT(screen, make_checkpoint(), accelerator="cpu")
    with pytest.warns(UserWarning, match="2 of 10 cells express none of the genes"):
        embedding = model.get_latent_representation(indices=range(10))
    np.testing.assert_allclose(embedding[2], embedding[6], atol=1e-6)


# Files


@pytest.mark.parametrize("name", ["args.json", "vocab.json", "best_model.pt"])
def test_a_missing_file_is_named_with_where_to_get_it(screen, make_checkpoint, name):
    ScGPT.setup_mudata(screen)
    checkpoint = make_checkpoint()
    (checkpoint / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"\['{re.escape(name)}'\] not found.*github.com/bowang-lab/scGPT"):
        ScGPT(screen, checkpoint)


def test_a_missing_folder_is_named(screen, tmp_path):
    ScGPT.setup_mudata(screen)
    with pytest.raises(FileNotFoundError, match=r"'args.json', 'vocab.json', 'best_model.pt'\] not found"):
        ScGPT(screen, tmp_path / "nowhere")


def test_files_of_different_models_are_refused(screen, make_checkpoint):
    ScGPT.setup_mudata(screen)
    with pytest.raises(ValueError, match=r"weights in .* are missing or of another shape.*linear1.weight.*\(24, 16\)"):
        ScGPT(screen, make_checkpoint(name="wide", d_hid=32))
    with pytest.raises(ValueError, match=r"weights in .* are missing.*layers.2.*missing"):
        ScGPT(screen, make_checkpoint(name="deep", nlayers=3))
    larger = make_checkpoint(genes=[f"G{i}" for i in range(99)], name="larger")
    mixed = make_checkpoint(name="mixed")
    shutil.copy(larger / "vocab.json", mixed / "vocab.json")
    with pytest.raises(ValueError, match=r"goes up to token 102, and best_model.pt has 39 gene embeddings"):
        ScGPT(screen, mixed)


def test_settings_that_are_not_supported_are_refused(screen, make_checkpoint):
    ScGPT.setup_mudata(screen)
    with pytest.raises(ValueError, match="pre_norm=True; only post-norm"):
        ScGPT(screen, make_checkpoint(pre_norm=True))
    incomplete = make_checkpoint(name="incomplete")
    (incomplete / "args.json").write_text(json.dumps({"embsize": D}))
    with pytest.raises(ValueError, match=r"lacks \['nheads', 'nlayers', 'd_hid'\]"):
        ScGPT(screen, incomplete)
    no_cls = make_checkpoint(name="no_cls")
    vocabulary = json.loads((no_cls / "vocab.json").read_text())
    del vocabulary["<cls>"]
    (no_cls / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ValueError, match="has no token '<cls>'"):
        ScGPT(screen, no_cls)


def test_weights_saved_from_several_devices_are_read(screen, make_checkpoint):
    ScGPT.setup_mudata(screen)
    checkpoint = make_checkpoint()
    expected = ScGPT(screen, checkpoint, accelerator="cpu").get_latent_representation(indices=[0, 1])
    saved = torch.load(checkpoint / "best_model.pt")
    torch.save({f"module.{name}": tensor for name, tensor in saved.items()}, checkpoint / "best_model.pt")
    found = ScGPT(screen, checkpoint, accelerator="cpu").get_latent_representation(indices=[0, 1])
    np.testing.assert_array_equal(found, expected)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


DAMAGES = {
    "args.json that is empty": ("args.json", b"", "is not a JSON file, or was cut short"),
    "args.json that is cut": ("args.json", b'{"embsize": 8, ', "is not a JSON file, or was cut short"),
    "args.json that is binary": ("args.json", b"\xff\xfe\x00", "is not a JSON file, or was cut short"),
    "args.json without end": ("args.json", b"[" * 10**5, "is not a JSON file, or was cut short"),
    "args.json with a list": ("args.json", b"[1, 2]", "holds a list instead of an object"),
    "vocab.json with a list": ("vocab.json", b"[1, 2]", "holds a list instead of an object"),
    "vocab.json with text": ("vocab.json", b'{"<cls>": "a", "<pad>": 1}', "does not number its tokens"),
    "vocab.json with large numbers": ("vocab.json", b'{"<cls>": 0, "<pad>": 1e30}', "does not number its tokens"),
    "best_model.pt that is empty": ("best_model.pt", b"", "it is not a file of weights, or was cut short"),
    "best_model.pt that is text": ("best_model.pt", b"hello", "it is not a file of weights, or was cut short"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_named_with_where_to_get_it(screen, make_checkpoint, kind):
    ScGPT.setup_mudata(screen)
    name, content, message = DAMAGES[kind]
    checkpoint = make_checkpoint()
    (checkpoint / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} .*{message}.*github.com/bowang-lab/scGPT") as caught:
        ScGPT(screen, checkpoint)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embsize": "8"}, "expected whole numbers of at least 1"),
        ({"nheads": 3}, "a multiple of nheads"),
        ({"nlayers": 10**9}, "weights for nlayers=1000000000"),
        ({"d_hid": 10**12}, "are missing or of another shape"),
        ({"n_bins": 0}, "n_bins=0"),
        ({"pad_value": "none"}, "pad_value='none'"),
        ({"pad_token": ["<pad>"]}, "has no token"),
    ],
)
def test_settings_out_of_range_are_refused(screen, make_checkpoint, settings, message):
    ScGPT.setup_mudata(screen)
    with pytest.raises(ValueError, match=message):
        ScGPT(screen, make_checkpoint(**settings))


def test_weights_that_name_code_are_cut_or_not_finite_are_refused(screen, make_checkpoint, tmp_path):
    ScGPT.setup_mudata(screen)
    path, ran = make_checkpoint() / "best_model.pt", tmp_path / "ran"
    whole, weights = path.read_bytes(), torch.load(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="it is not a file of weights, or was cut short"):
        ScGPT(screen, path.parent)
    torch.save({**weights, "more": Touch(ran)}, path)
    with pytest.raises(ValueError, match="names code to run") as caught:
        ScGPT(screen, path.parent)
    assert "weights_only" not in str(caught.value)
    assert not ran.exists()
    torch.save([weights], path)
    with pytest.raises(ValueError, match="does not hold named weights"):
        ScGPT(screen, path.parent)
    next(iter(weights.values()))[0] = torch.nan
    torch.save(weights, path)
    with pytest.raises(ValueError, match="NaN or infinite"):
        ScGPT(screen, path.parent)
