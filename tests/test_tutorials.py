"""The tutorials run from top to bottom, and were committed as they ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

if TYPE_CHECKING:
    from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CONCEPTS = (
    "import json; print(json.dumps([found['matches'].tolist(), profiles.layers['observed'].shape, str(folder.name)]))"
)
ON_DISK = "import json; print(json.dumps([size, profiles.n_obs, str(folder)]))"
CROPS = "import json; print(json.dumps([crops.n_obs, screen['image'].n_obs]))"
TABLES = (
    "import json; areas = scores.loc[scores['metric'] == 'edge_auc', 'value'].tolist(); "
    "print(json.dumps([areas, float(np.median(cosine)), str(folder)]))"
)
SCORES = "import json; print(json.dumps(table['value'].tolist()))"


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run_again(name: str, question: str, folder: Path) -> Any:
    """Run a notebook in a folder, and after it a cell that prints JSON; what that says."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(question))
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    return json.loads(notebook.cells[-1].outputs[0].text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_was_committed_after_a_whole_run_without_complaints(path: Path) -> None:
    cells = code_cells(nbformat.read(path, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"execute_result", "display_data"}  # no error, no warning
    assert "display_data" in kinds
    assert path.stat().st_size < 2**20


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_opens_with_what_you_get_how_long_it_takes_and_links(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    opening = notebook.cells[0].source
    assert opening.index("**At the end, you will have**") < opening.index("**It takes** a") < opening.index("```python")
    for host in (
        "colab.research.google.com/github/petri-scvi/petri-scvi/blob",
        "raw.githubusercontent.com/petri-scvi/petri-scvi",
    ):
        assert f"https://{host}/main/tutorials/{path.name})" in opening
    assert "google.colab" in notebook.cells[1].source
    assert "%pip install --quiet" in notebook.cells[1].source


@pytest.mark.slow
# zmq and the kernel warn about themselves
@pytest.mark.filterwarnings("ignore")
def test_evaluation_runs_again_and_scores_every_embedding(tmp_path: Path) -> None:
    scores = np.array(run_again("evaluation", SCORES, tmp_path))
    # A space that both modalities share (image, rna, both), and one each for itself (and three fusions); six metrics.
    assert len(scores) == (3 + 5) * 6
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_concepts_runs_again_finds_droplets_and_leaves_no_file(tmp_path: Path) -> None:
    matches, (n_contexts, n_genes), folder = run_again("concepts", CONCEPTS, tmp_path)
    assert len(matches) > 0
    assert all("lipid_droplets" in names for names in matches)
    assert n_contexts >= 10
    assert n_genes == 300
    assert not Path(folder).exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_feature_tables_runs_again_and_every_embedding_recovers_pairs(tmp_path: Path) -> None:
    areas, cosine, folder = run_again("feature_tables", TABLES, tmp_path)
    assert len(areas) == 3 + 5
    assert all(area > 0.6 for area in areas)  # chance is 0.5
    assert cosine > 0.8
    assert not Path(folder).exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_large_screens_runs_again_from_disk_and_leaves_no_file(tmp_path: Path) -> None:
    size, n_profiles, folder = run_again("large_screens", ON_DISK, tmp_path)
    assert size > 6000 * 5 * 64 * 64
    assert n_profiles > 50
    assert not Path(folder).exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_crops_runs_again_on_real_images(tmp_path: Path) -> None:
    n_cut, n_known = run_again("crops", CROPS, tmp_path)
    assert n_cut == n_known > 5000
    assert list(tmp_path.iterdir()) == []
