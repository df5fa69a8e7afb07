"""A page inside a notebook, and the cells that are chosen in it."""

from __future__ import annotations

import html
import importlib.util
from typing import TYPE_CHECKING, Any

from ._page import STATIC, page_path, write_page

if TYPE_CHECKING:
    from pathlib import Path

FRAME = (
    '<iframe srcdoc="{page}" sandbox="allow-scripts allow-downloads" title="{title}" '
    'style="width: 100%; height: {height}px; border: 1px solid #8884; box-sizing: border-box; border-radius: 6px">'
    "</iframe>"
)


class InlinePage:
    """A page that a notebook shows, returned by :func:`petri_scvi.pages.explorer` without ``path``.

    Parameters
    ----------
    page
        The HTML page.
    title
        Its title.
    height
        Height in the notebook, in pixels.
    """

    def __init__(self, page: str, title: str, height: int = 760) -> None:
        self._page, self._title, self._height = page, title, height
        self._widget: Any = None

    def __repr__(self) -> str:
        return f"InlinePage({self._title!r}, {len(self._page) / 1e6:.1f} MB)"

    def save(self, path: str | Path) -> Path:
        """Write the page to a file.

        Parameters
        ----------
        path
            File to write; it is replaced once the whole page has been written.

        Returns
        -------
        The path.

        Raises
        ------
        FileNotFoundError
            The folder does not exist.
        """
        target = page_path(path)
        write_page(target, [self._page])
        return target

    @property
    def selection(self) -> list[str]:
        """Names of the cells that are chosen in the page, to subset with; empty if none are.

        Raises
        ------
        ImportError
            anywidget is not installed.
        """
        if not has_anywidget():
            raise ImportError(
                "the selection comes back to Python through anywidget, which is missing; run "
                'pip install "petri-scvi[notebook]". Without it, the button "Download these cell names" of the page '
                "saves them to a file."
            )
        return [] if self._widget is None else list(self._widget.selection)

    def _repr_html_(self) -> str | None:
        if has_anywidget():
            return None  # the widget is shown; the page would be in the notebook twice
        return FRAME.format(page=html.escape(self._page), title=html.escape(self._title), height=self._height)

    def _repr_mimebundle_(self, **arguments: Any) -> Any:
        return self._shown_widget()._repr_mimebundle_(**arguments) if has_anywidget() else None

    def _shown_widget(self) -> Any:
        """The widget of this page, made when it is first shown."""
        if self._widget is None:
            self._widget = _widget_class()(page=self._page, title=self._title, height=self._height)
        return self._widget


def has_anywidget() -> bool:
    """Whether the selection can come back to Python."""
    return importlib.util.find_spec("anywidget") is not None


def _widget_class() -> Any:
    import anywidget
    import traitlets

    class PageWidget(anywidget.AnyWidget):
        """A page in a frame of its own, which tells which cells are chosen."""

        _esm = (STATIC / "widget.js").read_text(encoding="utf-8")
        page = traitlets.Unicode().tag(sync=True)
        title = traitlets.Unicode().tag(sync=True)
        height = traitlets.Int().tag(sync=True)
        selection = traitlets.List(traitlets.Unicode()).tag(sync=True)

    return PageWidget
