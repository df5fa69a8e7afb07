"""Every plot takes ``show`` and ``save``, as those of scanpy."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import scanpy as sc

from petri_scvi import pl

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of figures that were open at each call of ``plt.show``, under a backend that can show them."""
    calls: list[int] = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(len(plt.get_fignums())))
    monkeypatch.setattr(mpl, "get_backend", lambda: "qtagg")
    return calls


@pytest.fixture
def figdir(tmp_path: Path) -> Path:
    sc.settings.figdir = tmp_path / "figures"
    return tmp_path / "figures"


@pytest.mark.parametrize("name", pl.__all__)
def test_every_plot_takes_and_documents_them(name: str) -> None:
    plot = getattr(pl, name)
    parameters = inspect.signature(plot).parameters
    assert [parameters[argument].default for argument in ("show", "save")] == [None, None]
    assert parameters["show"].kind == parameters["save"].kind == inspect.Parameter.KEYWORD_ONLY
    both = (inspect.getdoc(pl.mixing) or "").partition("show\n")[2].partition("\n\n")[0]
    assert f"\nshow\n{both}\n" in (inspect.getdoc(plot) or "")
    assert hasattr(plot, "__wrapped__")  # by the decorator that shows and saves


def test_new_figures_are_shown_as_the_settings_say(guides: AnnData, shown: list[int]) -> None:
    assert pl.guide_consistency(guides) is not None
    assert shown == [1]
    sc.settings.autoshow = False
    pl.guide_consistency(guides)
    assert shown == [1]


@pytest.mark.parametrize("autoshow", [True, False])
def test_the_argument_overrides_the_settings(guides: AnnData, shown: list[int], autoshow: bool) -> None:
    sc.settings.autoshow = autoshow
    assert pl.guide_consistency(guides, show=True) is None
    assert pl.guide_consistency(guides, show=False) is not None
    assert shown == [1]


def test_axes_of_the_caller_are_shown_only_on_demand(guides: AnnData, shown: list[int]) -> None:
    _, ax = plt.subplots()
    pl.guide_consistency(guides, ax=ax)
    assert shown == []
    pl.guide_consistency(guides, ax=ax, show=True)
    assert shown == [1]


def test_a_backend_that_only_writes_files_is_not_asked_to_show(
    guides: AnnData, shown: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mpl, "get_backend", lambda: "agg")
    pl.guide_consistency(guides)
    assert shown == []


@pytest.mark.parametrize(
    ("save", "file"),
    [
        (True, "guide_consistency.pdf"),
        ("_a", "guide_consistency_a.pdf"),
        ("_a.svg", "guide_consistency_a.svg"),
        (".png", "guide_consistency.png"),
    ],
)
def test_suffixes_are_those_of_scanpy(guides: AnnData, figdir: Path, save: Any, file: str) -> None:
    ax = pl.guide_consistency(guides, save=save)
    assert [path.name for path in figdir.iterdir()] == [file]
    assert not plt.get_fignums()
    assert ax.has_data()


def test_a_path_is_the_file_itself(
    guides: AnnData, figdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pl.guide_consistency(guides, save=f"{tmp_path}/new/first.png")
    pl.guide_consistency(guides, save=Path("second.png"))
    assert (tmp_path / "new" / "first.png").read_bytes()[1:4] == b"PNG"
    assert (tmp_path / "second.png").exists()
    assert not figdir.exists()


def test_the_figure_of_the_caller_is_saved_and_stays_open(guides: AnnData, tmp_path: Path) -> None:
    figure, axes = plt.subplots(1, 2)
    pl.guide_consistency(guides, ax=axes[1], save=tmp_path / "both.png")
    assert (tmp_path / "both.png").exists()
    assert plt.get_fignums() == [figure.number]


def test_save_false_overrides_autosave(guides: AnnData, figdir: Path) -> None:
    sc.settings.autosave = True
    pl.guide_consistency(guides, save=False)
    assert not figdir.exists()
    assert len(plt.get_fignums()) == 1


def test_figures_of_several_axes_are_saved_as_a_whole(cells: MuData, described: MuData, figdir: Path) -> None:
    pl.umap_crops(cells, save=".png")
    pl.dimension(described, 0, save=".png")
    assert sorted(path.name for path in figdir.iterdir()) == ["dimension.png", "umap_crops.png"]
    height, width = plt.imread(figdir / "dimension.png").shape[:2]
    assert min(height, width) > 400  # not one panel of it
    assert not plt.get_fignums()


def test_what_is_no_file_is_refused_before_drawing(guides: AnnData) -> None:
    with pytest.raises(TypeError, match=r"save=3 is not accepted; pass True, a suffix such as '_a\.pdf'"):
        pl.guide_consistency(guides, save=3)  # type: ignore[arg-type]
    assert not plt.get_fignums()
