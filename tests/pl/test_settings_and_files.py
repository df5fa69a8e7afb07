"""What all plots of results have in common: axes, settings, files, and errors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from matplotlib.text import Text

from petri_scvi import pl

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    Draw = Callable[..., Axes]

PLOTS: dict[str, tuple[str, Draw]] = {
    "edge_recall": ("genes", pl.edge_recall),
    "efaar_recall": ("genes", pl.efaar_recall),
    "profile_similarity": ("genes", lambda d, **k: pl.profile_similarity(d, group_key="pathway", **k)),
    "guide_consistency": ("guides", pl.guide_consistency),
    "mean_average_precision": ("guides", pl.mean_average_precision),
    "replicate_consistency": ("cells", pl.replicate_consistency),
    "perturbation_strength": ("cells", pl.perturbation_strength),
    "probe": ("cells", lambda d, **k: pl.probe(d, obs_key="perturbation", **k)),
    "foscttm": ("cells", lambda d, **k: pl.foscttm(d, pair_key="perturbation", **k)),
    "context_recall": ("cells", pl.context_recall),
    "variance_shares": ("cells", pl.variance_shares),
    "mixing": ("cells", lambda d, **k: pl.mixing(d, obs_key="replicate", **k)),
    "score_screen": ("cells", pl.score_screen),
    "crops": ("cells", pl.crops),
    "guide_efficacy": ("modelled", pl.guide_efficacy),
    "gene_similarity": ("modelled", pl.gene_similarity),
    "shared_variance": ("modelled", pl.shared_variance),
}
CALLS = {
    "edge_recall": r"tl\.edge_recall\(profiles, edges\)",
    "efaar_recall": r"tl\.efaar_recall\(profiles, edges\)",
    "profile_similarity": r"tl\.profile_similarity\(profiles\)",
    "guide_consistency": r"tl\.guide_consistency\(profiles\)",
    "mean_average_precision": r"tl\.mean_average_precision\(profiles\)",
    "replicate_consistency": r"tl\.replicate_consistency\(data\)",
    "perturbation_strength": r"tl\.perturbation_strength\(data\)",
    "probe": r"tl\.probe\(data, obs_key='perturbation', method='linear'\)",
    "foscttm": r"tl\.foscttm\(data, pair_key='perturbation'\)",
    "context_recall": r"tl\.context_recall\(data, context_key='perturbation'\)",
    "variance_shares": r"tl\.variance_shares\(data\)",
    "mixing": r"tl\.mixing\(data, obs_key='replicate'\)",
    "guide_efficacy": r"tl\.guide_model\(profiles\)",
    "gene_similarity": r"tl\.guide_model\(profiles\)",
    "shared_variance": r"tl\.guide_model\(profiles\)",
    "score_screen": r"tl\.score_screen\(data, keys\)",
}


def shown(ax):
    """Numbers and words of everything drawn, in order."""
    artists = [np.asarray(line.get_xydata()).tolist() for line in ax.lines]
    artists += [np.asarray(collection.get_offsets()).tolist() for collection in ax.collections]
    artists += [path.vertices.tolist() for collection in ax.collections for path in collection.get_paths()]
    artists += [patch.get_path().vertices.tolist() for patch in ax.patches]
    artists += [image.get_array().tolist() for image in ax.images]
    artists += [text.get_text() for text in [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels()]]
    legend = ax.get_legend()
    artists += [text.get_text() for text in legend.get_texts()] if legend else []
    return [*artists, ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), *(shown(child) for child in ax.child_axes)]


@pytest.fixture(params=PLOTS)
def plot(request):
    """Name of a plot, data, and the plot."""
    owner, draw = PLOTS[request.param]
    return request.param, request.getfixturevalue(owner), draw


@pytest.mark.slow
def test_results_from_a_file_are_drawn_alike(plot, reread):
    _, data, draw = plot
    before = shown(draw(data))
    assert shown(draw(reread(data.copy()))) == before


def test_the_axes_given_are_drawn_on_and_returned_and_no_figure_is_opened(plot):
    _, data, draw = plot
    _, ax = plt.subplots()
    n_before = len(plt.get_fignums())
    assert draw(data, ax=ax) is ax
    assert len(plt.get_fignums()) == n_before
    assert ax.has_data()


def test_a_missing_result_names_the_call_that_writes_it(plot):
    name, _, draw = plot
    if name == "crops":
        pytest.skip("draws data, not a result")
    data = AnnData(obs={"pathway": ["a", "b"]})
    data.obs["pathway"] = ["a", "b"]
    with pytest.raises(KeyError, match=CALLS[name]):
        draw(data)
    assert not plt.get_fignums()


def test_a_result_of_another_function_is_refused(guides, genes):
    with pytest.raises(KeyError, match="result of another function"):
        pl.edge_recall(guides, key="guide_consistency")
    with pytest.raises(KeyError, match="result of another function"):
        pl.guide_consistency(genes, key="edge_recall")
    with pytest.raises(KeyError, match="key_added='tight'"):
        pl.edge_recall(genes, key="tight")


@pytest.mark.parametrize("fontsize", [8, 14])
def test_words_fit_the_figure_and_follow_the_font_size(plot, fontsize):
    sc.set_figure_params(fontsize=fontsize, dpi=70)
    _, data, draw = plot
    ax = draw(data)
    ax.figure.draw_without_rendering()
    assert {text.get_fontsize() for text in (ax.xaxis.label, ax.yaxis.label, ax.title)} <= {fontsize, 0.833 * fontsize}
    edge = ax.figure.bbox.padded(1)
    (left, right), (bottom, top) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    words = [text for text in ax.get_xticklabels() if left <= text.get_position()[0] <= right]
    words += [text for text in ax.get_yticklabels() if bottom <= text.get_position()[1] <= top]
    words += [*ax.texts, ax.xaxis.label, ax.yaxis.label, *(ax.get_legend().get_texts() if ax.get_legend() else [])]
    for text in filter(Text.get_text, words):
        box = Text.get_window_extent(text)
        is_inside = edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1
        assert is_inside, text.get_text()


def test_figures_grow_with_the_figure_size_and_large_letters(guides):
    plain = pl.guide_consistency(guides).figure.get_size_inches()
    with mpl.rc_context({"figure.figsize": (9.6, 9.6)}):
        np.testing.assert_allclose(pl.guide_consistency(guides).figure.get_size_inches(), 2 * plain)
    with mpl.rc_context({"font.size": 15}):
        np.testing.assert_allclose(pl.guide_consistency(guides).figure.get_size_inches(), 1.5 * plain)
    with mpl.rc_context({"font.size": 6, "figure.dpi": 60}):
        figure = pl.guide_consistency(guides).figure
        np.testing.assert_allclose(figure.get_size_inches(), plain)
        assert figure.dpi == 60


def test_autosave_writes_and_closes_new_figures_only(plot, tmp_path):
    name, data, draw = plot
    sc.settings.autosave, sc.settings.figdir, sc.settings.file_format_figs = True, tmp_path / "new", "svg"
    sc.settings.plot_suffix = "_today"
    _, ax = plt.subplots()
    draw(data, ax=ax)
    assert not (tmp_path / "new").exists()
    n_before = len(plt.get_fignums())
    draw(data)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{name}_today.svg"]
    assert len(plt.get_fignums()) == n_before


def test_many_points_are_rasterized_if_scanpy_says_so(cells):
    assert not any(c.get_rasterized() for c in pl.perturbation_strength(cells).collections)
    sc.set_figure_params(vector_friendly=True)
    assert all(c.get_rasterized() for c in pl.perturbation_strength(cells).collections)
    left, _ = pl.umap_crops(cells)
    assert [c.get_rasterized() for c in left.collections[:2]] == [True, True]


def test_plots_need_no_scanpy(cells, monkeypatch):
    monkeypatch.delitem(sys.modules, "scanpy")
    assert pl.umap_crops(cells)[0].axison


def test_a_figure_that_fails_is_closed(cells):
    with pytest.raises(TypeError):
        pl.perturbation_strength(cells, n_labels="many")
    assert not plt.get_fignums()
