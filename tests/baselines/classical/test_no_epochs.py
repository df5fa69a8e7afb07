"""Baselines without epochs say so."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from petri_scvi import baselines

if TYPE_CHECKING:
    from mudata import MuData

NO_EPOCHS = (
    "DINOv2",
    "ImageFeatures",
    "OpenPhenom",
    "PCAExpression",
    "PCAPixels",
    "PropensityScore",
    "RandomProjection",
    "ScGPT",
)


def test_every_baseline_trains_in_epochs_or_refuses_them() -> None:
    trains = {name: getattr(baselines, name).train for name in baselines.__all__}
    without = {name for name, train in trains.items() if "max_epochs" not in inspect.signature(train).parameters}
    assert without == set(NO_EPOCHS)
    assert all(hasattr(trains[name], "__wrapped__") for name in without)


@pytest.mark.parametrize("name", ["PCAExpression", "PCAPixels", "RandomProjection"])
@pytest.mark.parametrize("arguments", [{"max_epochs": 5}, {"train_size": 0.8, "accelerator": "cpu"}])
def test_arguments_of_other_models_are_refused_and_the_call_of_the_error_works(
    screen: MuData, name: str, arguments: dict[str, Any]
) -> None:
    model_class = getattr(baselines, name)
    model_class.setup_mudata(screen)
    model = model_class(screen, n_components=4)
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    with pytest.raises(TypeError) as caught:
        model.train(**arguments)
    assert str(caught.value).startswith(f"{name}.train({given}) is not accepted: {name} is computed from the cells")
    assert "there are no epochs" in str(caught.value)
    assert str(caught.value).endswith("Call train().")
    assert not model.is_trained
    model.train()
    assert model.is_trained


def test_positional_epochs_are_refused_and_arguments_that_there_are_named(screen: MuData) -> None:
    pytest.importorskip("cp_measure")
    baselines.ImageFeatures.setup_mudata(screen)
    model = baselines.ImageFeatures(screen)
    with pytest.raises(TypeError, match=r"train\(100\) is not accepted.* Call train\(enable_progress_bar=\.\.\.\)"):
        model.train(100)  # type: ignore[call-arg, arg-type]
