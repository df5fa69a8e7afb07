"""The screens of the paper's comparison, by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from petri_scvi import datasets, pp
from petri_scvi.common._files import check_space
from petri_scvi.datasets.cache._fetch import CACHE_VARIABLE
from petri_scvi.datasets.cache._verify import CACHE_REMEDY
from petri_scvi.datasets.public._perturb_multi import plan_perturb_multi

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from mudata import MuData

SCREENS = ("synthetic", "weak", "semisynthetic", "perturb_multi")
EDGES_KEY = "known_edges"
LIKELIHOOD = {"perturb_multi": "normal"}
"""Of screens that publish no counts."""


def load_screen(name: str, seed: int, arguments: dict[str, Any]) -> MuData:
    """A screen with its cells of both modalities; those of real screens are the same for all seeds."""
    if name == "synthetic":
        return datasets.synthetic_screen(seed, **arguments)
    if name == "weak":
        return datasets.synthetic_screen(seed, difficulty="weak", **arguments)
    if name == "semisynthetic":
        return datasets.semisynthetic_screen(seed=seed)
    matched = datasets.perturb_multi(**arguments)
    # PETRI ignores the pairing, and scores are of each modality: every measurement gets a row of its own, as a screen
    # of different cells has it. See docs/decisions/paired-cells.md.
    mdata = pp.build_mudata(**matched.mod)
    mdata.uns.update(matched.uns)
    mdata.uns[EDGES_KEY] = datasets.stringdb("mouse")
    return mdata


def edges_of(mdata: MuData) -> pd.DataFrame | None:
    """Pairs of target genes that belong together: simulated ones, or those of STRING."""
    truth = mdata.uns.get("synthetic_screen")
    return mdata.uns.get(EDGES_KEY) if truth is None else truth["edges"]


def prepare_perturb_multi(arguments: dict[str, Any], cache: Path | None, *, may_download: bool) -> None:
    """Say what would be downloaded and whether it fits; stop if that was not allowed."""
    if cache is not None:
        os.environ[CACHE_VARIABLE] = str(cache)
    plan = plan_perturb_multi(arguments["chunks"], arguments["channels"])
    print(f"perturb_multi, chunks {arguments['chunks']}: {plan}", flush=True)
    if not plan.missing:
        return
    try:
        check_space(plan.folder, plan.n_bytes, "The download", remedy=CACHE_REMEDY)
    except OSError as error:
        raise SystemExit(str(error)) from error
    if not may_download:
        names = "".join(f"\n  {entry.url}" for entry in plan.missing)
        raise SystemExit(
            f"not there:{names}\nPass --download to get them, or --cache with a folder that has them in its subfolder "
            "perturb_multi."
        )
