"""Sphinx configuration. The build needs no network; only the hosted one links to other projects."""

import os
from importlib.metadata import version as installed_version

from sphinx.ext.napoleon import NumpyDocstring

project = "petri-scvi"
author = "petri-scvi contributors"
copyright = f"2026, {author}"
version = release = installed_version("petri-scvi")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Notebooks are shown with the outputs they were committed with; a slow test runs them again.
nb_execution_mode = "off"

autosummary_generate = True
autodoc_typehints = "description"
# Types are added to the parameters that the docstring describes, and to no others.
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_param = True

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = project
html_static_path = ["_static"]

if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "mudata": ("https://mudata.readthedocs.io/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
        "torch": ("https://pytorch.org/docs/stable/", None),
    }


def _returns_as_prose(self: NumpyDocstring, section: str) -> list[str]:
    """Keep a "Returns" section as it is written; napoleon would read its first line as a type."""
    return [*self._format_block(":returns: ", self._dedent(self._consume_to_next_section())), ""]


NumpyDocstring._parse_returns_section = _returns_as_prose
