"""The API page lists the public names."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
ROOMS = ("baselines", "datasets", "io", "pages", "pl", "pp", "tl")
"""Rooms whose names are all public. ``nn`` also exports what other rooms build on."""


def test_the_api_page_lists_every_public_name_once() -> None:
    listed = re.findall(r"^   (\w+\.\w+)$", PAGE.read_text(), flags=re.MULTILINE)
    listed = sorted(name for name in listed if name.split(".")[0] in ROOMS)
    assert listed == sorted(f"{room}.{name}" for room in ROOMS for name in import_module(f"petri_scvi.{room}").__all__)
