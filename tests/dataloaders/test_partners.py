"""Documents without two measurements of one cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi.dataloaders import DocumentDataModule, DocumentSampler, open_rows, rows_by_context
from petri_scvi.dataloaders._partners import Apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ("image", "rna", "protein")


def screen(n_cells: int, n_contexts: int) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Codes and cells of three modalities: all cells in other orders, a fifth of them without image."""
    rng = np.random.default_rng(0)
    context = rng.permutation(np.arange(n_cells) % n_contexts)
    cells = {name: rng.permutation(n_cells) for name in NAMES}
    cells["image"] = cells["image"][: n_cells - n_cells // 5]
    return {name: context[numbers] for name, numbers in cells.items()}, cells


@pytest.mark.parametrize(("n_cells", "n_contexts"), [(60, 4), (40, 10)])
@pytest.mark.parametrize("arguments", [{}, {"is_fixed": True}, {"draw_runs": True}, {"groups": [np.array([0, 1, 3])]}])
def test_no_document_holds_a_cell_twice_and_every_row_is_drawn(
    n_cells: int, n_contexts: int, arguments: dict[str, Any]
) -> None:
    codes, cells = screen(n_cells, n_contexts)
    rows_of = {name: rows_by_context(codes[name]) for name in NAMES}
    sampler = DocumentSampler(rows_of, 2, 6, cells=cells, n_minibatches=150, **arguments)
    seen: dict[str, set[int]] = {name: set() for name in NAMES}
    for context, rows in sampler:
        for i, code in enumerate(context):
            drawn = {name: set(cells[name][rows[name][i]].tolist()) for name in rows}
            assert sum(len(found) for found in drawn.values()) == len(set().union(*drawn.values()))
            for name in rows:
                assert len(rows[name][i]) == 6
                if code >= 0:
                    assert (codes[name][rows[name][i]] == code).all()
                seen[name].update(rows[name][i].tolist())
    if not arguments.get("is_fixed"):
        assert {name: len(found) for name, found in seen.items()} == {name: len(codes[name]) for name in NAMES}


def test_every_modality_gets_cells_of_a_context_with_as_many_cells_as_modalities() -> None:
    """Two of the cells are in all modalities, the third in the first only."""
    rows_of = {name: {0: np.arange(3 if name == "image" else 2)} for name in NAMES}
    cells = {"image": np.array([0, 1, 2]), "rna": np.array([0, 1]), "protein": np.array([1, 0])}
    apart = Apart(rows_of, cells)
    assert not apart.close_contexts()
    for seed in range(20):
        found = apart.draw(0, NAMES, np.random.default_rng(seed))
        assert found["image"].tolist() == [2]
        assert cells["rna"][found["rna"]] != cells["protein"][found["protein"]]
    del cells["image"]
    rows_of["image"][0] = np.arange(2)
    assert Apart(rows_of, {**cells, "image": np.array([0, 1])}).close_contexts() == [0]


def test_all_measurements_of_a_cell_are_in_one_part_of_the_split() -> None:
    codes, cells = screen(200, 8)
    readers = {name: open_rows(np.zeros((len(codes[name]), 2), dtype=np.float32)) for name in NAMES}
    module = DocumentDataModule(readers, codes, cells=cells, train_size=0.7, validation_size=0.2)
    parts = [
        {name: set(cells[name][rows[name]].tolist()) for name in NAMES}
        for rows in (module.train_idx, module.val_idx, module.test_idx)
    ]
    for i, part in enumerate(parts):
        assert all(part.values())
        for j, other in enumerate(parts):
            assert i == j or not set().union(*part.values()) & set().union(*other.values())
    assert [sum(map(len, part.values())) for part in (module.train_idx, module.val_idx)] == pytest.approx(
        [0.7 * 560, 0.2 * 560], rel=0.05
    )


def test_contexts_with_too_few_cells_are_refused_for_training_and_left_out_for_validation() -> None:
    codes, cells = screen(40, 10)
    readers = {name: open_rows(np.zeros((len(codes[name]), 2), dtype=np.float32)) for name in NAMES}
    module = DocumentDataModule(readers, codes, cells=cells, train_size=0.75)
    assert not any(module._val_rows.values())
    with pytest.raises(ValueError, match="10 contexts have fewer training cells than modalities.*hide_partners"):
        DocumentDataModule(readers, codes, cells=cells, train_size=0.5)
