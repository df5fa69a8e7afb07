"""What the package index, conda-forge and the list of scverse show agrees with ``pyproject.toml``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch"}
LINK = re.compile(r"\]\(([^)#]+)")


def read_yaml(path: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / path).read_text())


def without_spaces(requirements: list[str]) -> set[str]:
    return {requirement.replace(" ", "") for requirement in requirements}


def test_every_file_that_the_readme_links_to_exists() -> None:
    relative = [link for link in LINK.findall((ROOT / "README.md").read_text()) if not link.startswith("http")]
    assert len(relative) > 5
    assert [link for link in relative if not (ROOT / link).exists()] == []


def test_the_package_index_gets_absolute_links() -> None:
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = (ROOT / hook["fragments"][0]["path"]).read_text()
    n_links = len(LINK.findall(text))
    for rule in hook["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    links = LINK.findall(text)
    assert len(links) == n_links
    assert [link for link in links if not link.startswith("https://")] == []
    assert not any(link.endswith(".md") and "readthedocs" in link for link in links)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)", text)
    assert all(picture.startswith(("https://raw.githubusercontent.com/", "https://")) for picture in pictures)


def test_the_recipe_of_conda_asks_for_the_same_packages() -> None:
    recipe = read_yaml("packaging/conda-forge/recipe.yaml")
    ours = {
        re.sub(r"^[\w-]+", lambda m: CONDA_NAMES.get(m[0], m[0]), line) for line in PROJECT["project"]["dependencies"]
    }
    theirs = [line for line in recipe["requirements"]["run"] if not line.startswith("python ")]
    assert without_spaces(theirs) == ours
    assert without_spaces(PROJECT["build-system"]["requires"]) < without_spaces(recipe["requirements"]["host"])
    assert recipe["context"]["version"] == PROJECT["project"]["version"]
    assert f">={recipe['context']['python_min']}" == PROJECT["project"]["requires-python"]


def test_one_version_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert str(read_yaml("CITATION.cff")["version"]) == version
    assert re.search(rf"^## {re.escape(version)} ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def test_the_entry_for_scverse_has_the_addresses_and_the_license_of_the_package() -> None:
    entry, project = read_yaml("packaging/scverse-ecosystem/meta.yaml"), PROJECT["project"]
    assert entry["install"]["pypi"] == entry["name"] == project["name"]
    assert entry["project_home"] == project["urls"]["Source"]
    assert entry["documentation_home"] == project["urls"]["Documentation"]
    assert entry["license"] == project["license"]


def test_pre_commit_and_make_lint_use_the_same_ruff() -> None:
    pinned = re.search(r"^ruff==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    hooks = read_yaml(".pre-commit-config.yaml")["repos"]
    assert pinned is not None
    assert [hook["rev"] for hook in hooks if "ruff-pre-commit" in hook["repo"]] == [f"v{pinned[1]}"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.y*ml")), ids=lambda path: path.name)
def test_workflows_and_forms_are_valid_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_pythons_of_the_classifiers_are_those_that_are_tested() -> None:
    prefix = "Programming Language :: Python :: 3."
    claimed = [f"3.{c.removeprefix(prefix)}" for c in PROJECT["project"]["classifiers"] if c.startswith(prefix)]
    jobs = read_yaml(".github/workflows/test.yaml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == claimed


def test_the_sdist_has_every_folder_that_tests_read() -> None:
    included = {path.strip("/") for path in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    read = {
        "benchmarks",
        "docs",
        "examples",
        "packaging",
        "src",
        "tests",
        "tutorials",
        ".github",
        ".pre-commit-config.yaml",
    }
    files = {"README.md", "CHANGELOG.md", "CITATION.cff", "constraints.txt"}
    assert read | files <= included  # the readme is not added by itself, because its text is made by a plugin
    assert all((ROOT / path).exists() for path in included)
