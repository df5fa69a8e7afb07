"""HTML pages for a browser: one file that needs no server and no network.

``contents/`` collects what a page shows; ``_page.py`` writes it with ``templates/page.html`` and the styles and scripts
in ``static/``. ``_dimension_report.py`` writes a page of dimensions alone, ``_inline.py`` shows one in a notebook.
Open first: ``_explorer.py``.
"""

from petri_scvi.pages._dimension_report import dimension_report
from petri_scvi.pages._explorer import explorer
from petri_scvi.pages._inline import InlinePage

__all__ = ["InlinePage", "dimension_report", "explorer"]
