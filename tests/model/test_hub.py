"""The recipe of docs/sharing_models.md for the hub of scvi-tools."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("huggingface_hub")

PAGE = Path(__file__).parents[2] / "docs" / "sharing_models.md"
READ = """
import json, sys
import mudata, numpy as np
new = mudata.read_h5mu("new.h5mu")
{recipe}
np.save("embedding.npy", embedding)
assert hub.model_card.data.license == "cc-by-4.0", hub.model_card.data
assert model.adata is None
"""


@pytest.mark.slow
def test_the_recipe_makes_a_folder_that_another_process_reads_without_the_training_data(
    trained_model, make_screen, tmp_path, monkeypatch
):
    section = PAGE.read_text().split("## On the Hugging Face hub")[1].split("\n## ")[0]
    write, read = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    upload = "hub.push_to_huggingface_hub("
    lines = [line for line in write.splitlines() if not line.startswith(upload)]
    assert len(lines) == len(write.splitlines()) - 1
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines), {"model": trained_model})
    assert sorted(path.name for path in Path("petri_hub").iterdir()) == [
        "README.md",
        "_scvi_required_metadata.json",
        "model.pt",
    ]
    new = make_screen(seed=2)
    new.write("new.h5mu")
    subprocess.run([sys.executable, "-c", READ.format(recipe=read)], check=True, capture_output=True)
    np.testing.assert_allclose(np.load("embedding.npy"), trained_model.get_latent_representation(new), atol=1e-6)
