"""Sphinx configuration. The build needs no network; only the hosted one links to other projects."""

import inspect
import os
import re
from importlib.metadata import metadata

from scvi.model.base import BaseModelClass
from sphinx.application import Sphinx
from sphinx.ext.napoleon import NumpyDocstring

from petri_scvi import PETRI

about = metadata("petri-scvi")
project = about["Name"]
author = "petri-scvi contributors"
copyright = f"2026, {author}"
version = release = about["Version"]
repository = "https://github.com/petri-scvi/petri-scvi/"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "_templates"]
default_role = "literal"
nitpicky = True
# Types are written as in the signature, and names of other packages are links on the hosted site only.
nitpick_ignore_regex = [
    ("py:class", r"(?!petri_scvi\.).*"),
    ("py:class", r"petri_scvi\..*\._.*"),
    ("py:(func|meth|attr|mod|obj)", r"(anndata|lightning|mudata|numpy|pandas|scanpy|scipy|scvi|torch)\..*"),
]
templates_path = ["_templates"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Notebooks are shown with the outputs they were committed with; a slow test runs them again.
nb_execution_mode = "off"

autosummary_generate = True
# What PETRI has from scvi-tools, which documents it: (name, first line of its docstring without roles and quotes).
autosummary_context = {
    "methods_of_scvi": [
        (name, re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`|`", r"\1", inspect.getdoc(member).partition("\n")[0]))
        for name, member in inspect.getmembers(PETRI, lambda member: callable(member) or isinstance(member, property))
        if not name.startswith("_")
        and (inspect.unwrap(getattr(member, "fget", None) or member).__module__ or "").startswith("scvi.")
        and inspect.getdoc(member)
    ]
}
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

# What exists only after the first release.
linkcheck_ignore = [
    r"https://(github\.com|raw\.githubusercontent\.com|codecov\.io/gh)/petri-scvi/.*",
    r"https://colab\.research\.google\.com/github/petri-scvi/.*",
    r"https://petri-scvi\.readthedocs\.io.*",
    r"https://pypi\.org/project/petri-scvi.*",
]
linkcheck_timeout = 20
linkcheck_anchors_ignore_for_url = [r"https://github\.com/.*"]  # made by scripts of the page

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["css/custom.css"]
html_theme_options = {
    "repository_url": repository.rstrip("/"),
    "repository_branch": "main",
    "path_to_docs": "docs",
    "use_repository_button": True,
    "use_issues_button": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the sidebar has the search
}

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


def _name_the_base_class(app: Sphinx, name: str, of: type, options: dict, bases: list[type]) -> None:
    """Show scvi-tools' class as the base of a model, instead of the classes that its methods are spread over."""
    if issubclass(of, BaseModelClass):
        bases[:] = [BaseModelClass]


def setup(app: Sphinx) -> None:
    """Register what is above."""
    app.connect("autodoc-process-bases", _name_the_base_class)
