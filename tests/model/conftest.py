"""Short cuts that the tests of the model share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from mudata import MuData

from petri_scvi import PETRI
from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(autouse=True)
def _one_thread(_quiet_and_seeded: None) -> None:
    """Two threads on such small tensors wait for each other most of the time."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def quiet() -> dict[str, Any]:
    """Arguments of ``train`` that keep it on the CPU and silent."""
    return dict(QUIET)


@pytest.fixture(scope="session")
def build(tiny: dict[str, Any]) -> Callable[..., PETRI]:
    """Register a MuData and build a tiny model on it."""

    def build(mdata: MuData, setup: dict[str, Any] | None = None, **changes: Any) -> PETRI:
        PETRI.setup_mudata(mdata, **(setup or {}))
        return PETRI(mdata, **{**tiny, **changes})

    return build


@pytest.fixture(scope="session")
def fit(build: Callable[..., PETRI]) -> Callable[..., PETRI]:
    """Register a MuData, build a tiny model on it and train it for an epoch."""

    def fit(
        mdata: MuData, setup: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **train: Any
    ) -> PETRI:
        built = build(mdata, setup, **(model or {}))
        built.train(**{"max_epochs": 1, **QUIET, **train})
        return built

    return fit


@pytest.fixture(scope="session")
def combine() -> Callable[..., MuData]:
    """MuData of the modalities given, in the order given."""

    def combine(**modalities: AnnData) -> MuData:
        with columns_stay_in_modalities():
            return MuData(modalities)

    return combine


@pytest.fixture(scope="session")
def refused() -> Callable[..., Any]:
    """Context in which an error with all the words must be raised that leaves every MuData given as it was."""

    @contextmanager
    def refused(error: type[Exception], *words: str, untouched: tuple[MuData, ...] = ()) -> Iterator[None]:
        before = [_traces(mdata) for mdata in untouched]
        with pytest.raises(error) as caught:
            yield
        message = str(caught.value.args[0])
        for word in words:
            assert word in message, f"{word!r} is not in {message!r}"
        assert [_traces(mdata) for mdata in untouched] == before

    return refused


def _traces(mdata: MuData) -> dict[str, Any]:
    """All that scvi-tools or PETRI could leave behind, with the values of ``obs``."""
    parts: dict[str, Any] = {"mdata": mdata, **mdata.mod}
    return {
        name: (
            {column: part.obs[column].astype(str).tolist() for column in part.obs},
            sorted(part.uns),
            sorted(part.obsm),
            part.obs_names.tolist(),
        )
        for name, part in parts.items()
    }
