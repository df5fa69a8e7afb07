"""Who may import whom, and how long a file may be."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "petri_scvi"
SOURCE = Path(__file__).parents[1] / "src" / PACKAGE
FILES = sorted(SOURCE.rglob("*.py"))

EVERY_ROOM = {path.stem if path.parent == SOURCE else path.relative_to(SOURCE).parts[0] for path in FILES}
ALLOWED: dict[str, set[str]] = {
    "_constants": set(),
    "_compat": set(),
    "nn": set(),
    "common": {"_constants"},
    "_checks": {"_constants", "common"},
    "_groups": {"_constants", "common"},
    "dataloaders": {"_constants", "_checks"},
    "imaging": {"_constants", "_checks", "dataloaders"},
    "io": {"_constants", "_checks", "common"},
    "pp": {"_constants", "_checks", "common"},
    "datasets": {"_constants", "_checks", "common", "io"},
    "tl": {"_constants", "_checks", "_groups", "common"},
    "pl": {"_constants", "_checks"},
    "pages": {"_constants", "_checks", "common", "pl"},
    "modalities": {"_constants", "_checks", "common", "dataloaders", "nn"},
    "_module": {"modalities", "nn"},
    "_training_plan": {"_constants", "_module"},
    "model": {"_constants", "_checks", "_groups", "common", "_module", "_training_plan", "dataloaders", "modalities"},
    "_model": {"_module", "modalities", "model"},
    "baselines": {
        "_constants",
        "_checks",
        "_model",
        "_module",
        "_training_plan",
        "common",
        "dataloaders",
        "imaging",
        "modalities",
        "model",
        "nn",
    },
    "demo": EVERY_ROOM | {"__init__"},
    "__init__": EVERY_ROOM - {"demo"},
}
"""Room to the rooms that it may import from, for types as well. Everything may import ``_compat`` and ``common``."""
ALLOWED_TO_FILE = {
    "io/store/_write.py": {"pp"},
    "pages/_explorer.py": {"tl"},
    "pages/contents/_contents.py": {"tl"},
    "pages/contents/_expression.py": {"tl"},
    "pages/contents/_map.py": {"tl"},
    "pages/contents/_profiles.py": {"tl"},
    "tl/concepts/_image_features.py": {"dataloaders", "imaging"},
    "tl/concepts/_sae_training.py": {"nn"},
    "tl/concepts/_sparse_autoencoder.py": {"nn"},
    "tl/cross_modal/_image_regression.py": {"nn"},
}
"""Arrows of one file beyond those of its room."""
JAX = {"jax", "numpyro"}
FORBIDDEN_EVERYWHERE = JAX | {"torchvision", "copairs", "pycytominer", "efaar_benchmarking", "tests", "benchmarks"}
JAX_FILES = {"tl/guides/_guide_coordinates.py", "tl/guides/_guide_inference.py"}
"""The only files that may import JAX; they are imported by each other and inside the function that needs them."""

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MAX_FILE_LINES = 320
MAX_FUNCTION_LINES = 60
MAX_FILES = 14


class Import(NamedTuple):
    """One imported name; ``module`` is absolute, ``name`` is empty for ``import module``."""

    module: str
    name: str
    line: int

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


def imports_of(source: str, package: str) -> list[Import]:
    """Imports at the top of the file, inside functions and under ``TYPE_CHECKING``.

    Parameters
    ----------
    source
        Text of the file.
    package
        Package that the file lies in, which relative imports start from.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, "", node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*base, *module.split(".")] if module else base)
            found += [Import(module, alias.name, node.lineno) for alias in node.names]
    return found


def package_of(path: Path) -> str:
    return ".".join([PACKAGE, *path.relative_to(SOURCE).parts[:-1]])


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else path.stem


def target_room(imported: Import) -> str | None:
    """Room that is imported from; ``None`` for other packages, ``__init__`` for names of the package itself."""
    top, *rest = imported.path.split(".")
    if top != PACKAGE:
        return None
    return rest[0] if rest and rest[0] in EVERY_ROOM else "__init__"


def wrong_arrows(path: Path, source: str) -> list[str]:
    room, file = room_of(path), path.relative_to(SOURCE).as_posix()
    allowed = ALLOWED.get(room, set()) | ALLOWED_TO_FILE.get(file, set()) | {room, "_compat", "common"}
    return [
        f"{file}:{imported.line}: {room} -> {target} ({imported.path})"
        for imported in imports_of(source, package_of(path))
        if (target := target_room(imported)) is not None and target not in allowed
    ]


def private_scvi_names(source: str, package: str) -> list[str]:
    return [
        imported.path
        for imported in imports_of(source, package)
        if imported.path.split(".")[0] == "scvi" and any(part.startswith("_") for part in imported.path.split("."))
    ]


def function_lengths(source: str) -> dict[str, int]:
    """Function to its lines of code: those of its body that are neither empty, docstring nor comment only."""
    is_code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}:
            is_code.update(range(token.start[0], token.end[0] + 1))
    lengths = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = range(body[0].lineno, (node.end_lineno or 0) + 1) if body else range(0)
            lengths[f"{node.name}:{node.lineno}"] = len(is_code.intersection(lines))
    return lengths


def parameters() -> list[object]:
    return [pytest.param(path, id=path.relative_to(SOURCE).as_posix()) for path in FILES]


@pytest.mark.parametrize("path", parameters())
def test_a_file_imports_only_from_rooms_that_its_room_may_see(path: Path) -> None:
    assert wrong_arrows(path, path.read_text()) == []


def test_every_room_is_in_the_table() -> None:
    assert sorted(EVERY_ROOM - set(ALLOWED)) == []


def test_nobody_imports_the_demo() -> None:
    importers = [room for room, allowed in ALLOWED.items() if "demo" in allowed and room != "demo"]
    assert importers == []


def test_rooms_of_the_table_form_no_cycle() -> None:
    order: list[str] = []
    remaining = dict(ALLOWED)
    while remaining:
        ready = [room for room, allowed in remaining.items() if not (allowed - {room}) & set(remaining)]
        assert ready, f"these rooms import each other: {sorted(remaining)}"
        order += ready
        remaining = {room: allowed for room, allowed in remaining.items() if room not in ready}


@pytest.mark.parametrize("path", parameters())
def test_only_compat_imports_private_names_of_scvi_tools(path: Path) -> None:
    if room_of(path) != "_compat":
        assert private_scvi_names(path.read_text(), package_of(path)) == []


@pytest.mark.parametrize("path", parameters())
def test_nothing_imports_test_oracles_or_heavy_packages(path: Path) -> None:
    tops = {imported.path.split(".")[0] for imported in imports_of(path.read_text(), package_of(path))}
    forbidden = FORBIDDEN_EVERYWHERE - (JAX if path.relative_to(SOURCE).as_posix() in JAX_FILES else set())
    assert sorted(tops & forbidden) == []


@pytest.mark.parametrize("path", parameters())
def test_nothing_imports_the_files_that_need_jax_before_they_are_called(path: Path) -> None:
    if path.relative_to(SOURCE).as_posix() in JAX_FILES:
        return
    top = ast.Module([node for node in ast.parse(path.read_text()).body if not isinstance(node, FUNCTIONS)], [])
    found = [imported.path for imported in imports_of(ast.unparse(top), package_of(path))]
    names = {Path(file).stem for file in JAX_FILES}
    assert [path for path in found if names & set(path.split("."))] == []


@pytest.mark.parametrize("path", parameters())
def test_files_and_functions_are_short_enough_to_read(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_FILE_LINES
    too_long = {name: length for name, length in function_lengths(source).items() if length > MAX_FUNCTION_LINES}
    assert too_long == {}


def test_folders_have_few_enough_files_to_know_them() -> None:
    folders = {path.parent for path in FILES}
    sizes = {folder.relative_to(SOURCE).as_posix(): len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder: size for folder, size in sizes.items() if size > MAX_FILES} == {}


# The checks themselves


@pytest.mark.parametrize(
    ("file", "source", "n_wrong"),
    [
        ("nn/_masking.py", "import torch\nfrom petri_scvi.nn._patches import patchify", 0),
        ("nn/_masking.py", "from petri_scvi import _constants", 1),
        ("nn/_masking.py", "from petri_scvi import PETRI", 1),
        ("nn/_masking.py", "import petri_scvi", 1),
        ("nn/_masking.py", "import petri_scvi.dataloaders._sampler", 1),
        ("nn/_masking.py", "from petri_scvi._compat import SAVE_KEYS", 0),
        ("nn/_masking.py", "from ._patches import patchify\nfrom . import _blocks", 0),
        ("nn/_masking.py", "from ..dataloaders import open_rows", 1),
        ("nn/_masking.py", "from .. import _module", 1),
        ("nn/_masking.py", "def f():\n    from petri_scvi.pp import build_mudata", 1),
        ("nn/_masking.py", "if TYPE_CHECKING:\n    from petri_scvi.pp import build_mudata", 1),
        ("nn/_masking.py", "if TYPE_CHECKING:\n    pass\nelse:\n    from petri_scvi.pp import build_mudata", 1),
        ("_training_plan.py", "from petri_scvi.model import TrainingMixin", 1),
        ("_training_plan.py", "from . import _constants", 0),
        ("pp/_mudata.py", "from petri_scvi.pl import edge_recall", 1),
        ("tl/profiles/_whiten.py", "from petri_scvi.nn import patchify", 1),
        ("tl/profiles/_whiten.py", "if TYPE_CHECKING:\n    from petri_scvi import PETRI", 1),
        ("tl/profiles/_whiten.py", "from ._aggregate import fold_guides\nfrom .. import scores", 0),
        ("tl/profiles/_whiten.py", "from ...nn import patchify", 1),
        ("tl/concepts/_sparse_autoencoder.py", "from petri_scvi.nn import patchify", 0),
        ("datasets/public/_hepg2_screen.py", "from petri_scvi.io import open_screen", 0),
        ("pages/_dimension_report.py", "from petri_scvi.tl import fit_sae", 1),
        ("_model.py", "from petri_scvi.nn import patchify", 1),
        ("__init__.py", "from petri_scvi import tl, pp\nfrom petri_scvi._model import PETRI", 0),
        ("demo/_app.py", "import petri_scvi\nfrom petri_scvi import __version__, datasets", 0),
    ],
)
def test_wrong_arrows_are_found(file: str, source: str, n_wrong: int) -> None:
    assert len(wrong_arrows(SOURCE / file, source)) == n_wrong


@pytest.mark.parametrize(
    ("source", "n_private"),
    [
        ("from scvi.data._constants import _X_KEY as X", 1),
        ("from scvi.data import _X_KEY", 1),
        ("import scvi._settings", 1),
        ("from scvi.data import AnnDataManager\nimport scvi", 0),
        ("from petri_scvi._compat import SAVE_KEYS", 0),
    ],
)
def test_private_names_of_scvi_tools_are_found(source: str, n_private: int) -> None:
    assert len(private_scvi_names(source, PACKAGE)) == n_private


def test_lines_of_code_leave_out_signature_docstring_comments_and_empty_lines() -> None:
    signature = "def f(\n    a: int,\n) -> int:\n"
    docstring = '    """One.\n\n    Two.\n    """\n'
    body = "    # why\n\n    b = (\n        a\n    )\n    return b\n"
    source = signature + docstring + body
    assert function_lengths(source) == {"f:1": 4}
