"""The benchmark of a real tissue, on tiny files of the same layout, and the gallery of simulated screens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from benchmarks import olfactory_bulb, screen_gallery
from petri_scvi import pp

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData


def halves() -> tuple[MuData, MuData]:
    """Spots a0 to a19 are imaged and b0 to b19 sequenced; hidden, the other way round."""
    spots = {letter: [f"{letter}{i}" for i in range(20)] for letter in "ab"}
    made = []
    for imaged, sequenced in (("a", "b"), ("b", "a")):
        parts = {}
        for name, letter in (("image", imaged), ("rna", sequenced)):
            obs = pd.DataFrame({"true_spot": spots[letter], "block": [f"block{i // 4}" for i in range(20)]})
            parts[name] = AnnData(obs=obs.set_index(f"{name}_" + obs["true_spot"]))
        made.append(pp.build_mudata(**parts))
    return made[0], made[1]


def test_halves_of_the_same_spots_are_compared() -> None:
    shown, hidden = halves()
    rng = np.random.default_rng(0)
    of_a, of_b = rng.normal(size=(2, 20, 3))
    aligned = ({"image": of_a, "rna": of_b}, {"image": of_b, "rna": of_a})
    assert olfactory_bulb.score(shown, hidden, aligned)["FOSCTTM"] == 0
    apart = ({"image": of_a, "rna": of_b + 9}, {"image": of_b, "rna": of_a + 9})
    found = olfactory_bulb.score(shown, hidden, apart)
    assert found["FOSCTTM"] > 0.2
    assert found["FOSCTTM, centred"] == pytest.approx(0, abs=1e-9)
    assert found["chance at 1"] == pytest.approx(0.2)


@pytest.mark.slow
def test_the_gallery_is_drawn(tmp_path: Path) -> None:
    screen_gallery.main(["--quick", "--out", str(tmp_path)])
    assert (tmp_path / "screens.png").stat().st_size > 10_000
