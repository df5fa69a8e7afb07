"""Where the time of a training step goes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.profiler import profile

from benchmarks import _cases as cases
from benchmarks._timing import forward_backward, interleave

if TYPE_CHECKING:
    from benchmarks._timing import Call, Table
    from petri_scvi._module import PETRIModule


def parts_of_step(setting: cases.Setting, device: str) -> dict[str, Call]:
    """Forward and backward of each part of the step alone, on what the part before it made."""
    module = cases.make_module(setting, device)
    cells = cases.make_cells(setting, device)
    minibatch = {"cells": cells, "context": torch.arange(setting.n_documents, device=device)}
    outputs, predictions, _ = module(minibatch)
    outputs, predictions = detached(outputs), detached(predictions)
    visible = outputs["visible"]
    documents = {name: part.unflatten(0, (setting.n_documents, -1)) for name, part in outputs["latents"].items()}
    calls: dict[str, Call] = {}
    for name, title in [("rna", "expression"), ("image", "image")]:
        modality = module.modality(name)
        calls[f"{title} encoder"] = forward_backward(
            lambda m=modality, n=name: m.encode(outputs["inputs"][n], visible[n]).square().sum(), module, device
        )
        calls[f"{title} decoder"] = forward_backward(
            lambda n=name: module.generative({n: outputs["fused"][n]}, outputs["inputs"], visible)[n].square().sum(),
            module,
            device,
        )
        calls[f"{title} loss"] = forward_backward(
            lambda n=name: module.loss(minibatch, outputs, {n: predictions[n]}).loss, module, device
        )
    calls["set transformer"] = forward_backward(
        lambda: torch.stack([part.square().sum() for part in module.set_transformer(documents).values()]).sum(),
        module,
        device,
    )
    return {**calls, **step_of(module, minibatch)}


def step_of(module: PETRIModule, minibatch: dict[str, Any]) -> dict[str, Call]:
    """The optimizer alone, and the whole step."""
    trained = copy.deepcopy(module)  # training it changes nothing else
    optimizer = torch.optim.AdamW(trained.parameters(), fused=True)
    whole = forward_backward(lambda: trained(minibatch)[2].loss, trained, str(next(module.parameters()).device.type))
    whole()
    return {"optimizer": optimizer.step, "whole step": lambda: (whole(), optimizer.step())}


def detached(tensors: dict[str, Any]) -> dict[str, Any]:
    """Copies that ask for a gradient where one was computed, as in the step."""
    return {
        name: detached(value) if isinstance(value, dict) else value.detach().requires_grad_(value.requires_grad)
        for name, value in tensors.items()
    }


def step_profile(table: Table, run: cases.Run) -> None:
    """Share of each part, and of the operators that take longest."""
    section = "profile of the training step"
    for setting in run.settings:
        calls = parts_of_step(setting, run.device)
        seconds = {
            name: float(np.median(times)) for name, times in interleave(calls, run.device, run.n_repeats).items()
        }
        total = sum(value for name, value in seconds.items() if name != "whole step")
        table.add(section, setting.name, "whole step", seconds["whole step"], "s", threads=run.threads[0])
        table.add(section, setting.name, "sum of its parts", total, "s", threads=run.threads[0])
        for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
            if name != "whole step":
                table.add(section, setting.name, name, 100 * value / total, "% of the parts")
        with profile() as profiler:
            calls["whole step"]()
        clock = "self_cpu_time_total" if run.device == "cpu" else "self_device_time_total"
        averages = sorted(profiler.key_averages(), key=lambda average: -getattr(average, clock))
        all_operators = sum(getattr(average, clock) for average in averages)
        for average in averages[:8]:
            share = 100 * getattr(average, clock) / all_operators
            table.add(section, setting.name, f"operator {average.key}", share, "% of all operators")
