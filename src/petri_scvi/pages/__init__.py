"""HTML pages for a browser: one file that needs no server and no network.

``_dimension_report.py`` collects what a page shows; ``templates/`` has its HTML, CSS and JavaScript, in Jinja.
Open first: ``_dimension_report.py``, beside ``templates/dimension_report.html``.
"""

from petri_scvi.pages._dimension_report import dimension_report

__all__ = ["dimension_report"]
