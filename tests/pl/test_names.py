"""Names that would be formulas or styles are drawn as they are."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.text import Text
from mudata import MuData

from petri_scvi import pl
from petri_scvi._compat import columns_stay_in_modalities
from tests.pl.test_settings_and_files import PLOTS

MARK = r"$\frac{$[/]"
"""Two dollars around what is no formula, and a closing tag without an opening one."""
NAMES = re.compile(r"GENE\d+|TARGET\d+|sg\d+|P\d+|r\d|dna|actin|lipid_droplets|PROGRAM_\d|X_other")


def marked(value):
    """The same results, with names of genes, guides, channels and so on that would be formulas."""
    if isinstance(value, str):
        return value + MARK if NAMES.fullmatch(value) else value
    if isinstance(value, dict):
        return {marked(key): marked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(marked(item) for item in value)
    if isinstance(value, pd.Index):
        return pd.Index([marked(item) for item in value], name=value.name)
    if isinstance(value, pd.DataFrame):
        found = value.apply(
            lambda column: [marked(item) for item in column] if column.dtype.kind not in "bif" else column
        )
        return found.set_axis(marked(value.index), axis=0).set_axis(marked(value.columns), axis=1)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUST":
        return np.array([marked(item) for item in value.tolist()], dtype=object)
    if isinstance(value, AnnData):
        return AnnData(
            X=value.X,
            obs=marked(value.obs),
            var=marked(value.var),
            uns=marked(dict(value.uns)),
            obsm=dict(value.obsm),
            obsp=dict(value.obsp),
            layers={name: layer for name, layer in value.layers.items() if name is not None},
        )
    if isinstance(value, MuData):
        with columns_stay_in_modalities():
            found = MuData({name: marked(adata) for name, adata in value.mod.items()})
        found.uns.update(marked(dict(value.uns)))
        for name, array in value.obsm.items():
            if name not in value.mod:
                found.obsm[name] = array
        return found
    return value


def drawn(figure):
    """Words in a figure after it was drawn."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.parametrize("name", PLOTS)
def test_plots_of_results_draw_names_as_they_are(name, request):
    owner, draw = PLOTS[name]
    data = marked(request.getfixturevalue(owner))
    words = drawn(draw(data).figure)
    no_names = ("context_recall", "edge_recall", "efaar_recall", "foscttm", "mixing", "probe", "shared_variance")
    if name not in (*no_names, "variance_shares"):  # these have no names
        assert any(MARK in word for word in words)
    figure, ax = plt.subplots()
    ax.set_title(r"$\alpha$ of the user")
    draw(data, ax=ax)
    drawn(figure)
    if ax.get_title() == r"$\alpha$ of the user":
        assert ax.title.get_parse_math()


def test_plots_of_models_draw_names_as_they_are(rng):
    images, mask = rng.random((3, 2, 8, 8)).astype(np.float32), np.zeros((3, 4), dtype=bool)
    mask[:, 1:3] = True
    ax = pl.reconstructed_crops(images, images, mask, channel_names=[f"dna{MARK}", f"actin{MARK}"])
    assert f"dna{MARK}" in drawn(ax.figure)
    history = {f"{part}_loss_{MARK}": pd.DataFrame({"loss": [2.0, 1.0]}) for part in ("train", "validation")}
    assert f"Loss, {MARK}" in drawn(pl.training_history(history, modality=MARK).figure)
    values = rng.random((4, 5)) + 0.1
    drawn(pl.reconstructed_expression(values, values, values > 0.2, groups=[MARK, MARK, "b", "b"]).figure)


def test_plots_of_dimensions_draw_names_as_they_are(described):
    data = marked(described)
    for number in (0, 2):
        figure = next(iter(pl.dimension(data, number).values())).figure
        assert any(MARK in word for word in drawn(figure))
