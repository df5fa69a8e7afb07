"""HTML pages for a browser: one file that needs no server and no network.

``contents/`` collects what the explorer shows; ``_page.py`` writes it with ``templates/page.html`` and the styles and
scripts in ``static/``. ``_dimension_report.py`` writes the cards of dimensions.
Open first: ``_explorer.py``.
"""

from petri_scvi.pages._dimension_report import dimension_report
from petri_scvi.pages._explorer import explorer

__all__ = ["dimension_report", "explorer"]
