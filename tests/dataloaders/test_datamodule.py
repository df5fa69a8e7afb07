from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy import sparse

from petri_scvi._training_plan import PETRITrainingPlan
from petri_scvi.dataloaders import DocumentDataModule, DocumentDataset, DocumentRows, open_rows, prefetch, split_cells

if TYPE_CHECKING:
    from collections.abc import Iterator

N_IMAGE, N_RNA = 60, 40
CODES = {"rna": np.arange(N_RNA) % 4, "image": np.arange(N_IMAGE) % 5}
"""Contexts 0 to 3 have both modalities, 4 images only."""
IMAGES = np.arange(N_IMAGE * 2 * 4 * 4, dtype="uint16").reshape(N_IMAGE, 2, 4, 4)
COUNTS = np.arange(N_RNA * 3, dtype="float32").reshape(N_RNA, 3)


def datamodule(codes: dict[str, Any] = CODES, **settings: Any) -> DocumentDataModule:
    readers = {"rna": open_rows(sparse.csr_matrix(COUNTS)), "image": open_rows(IMAGES)}
    return DocumentDataModule({name: readers[name] for name in codes}, codes, **settings)


def rows_of(minibatch: dict[str, Any]) -> dict[str, list[int]]:
    """Rows from the first number of each cell, which says where it stood."""
    first = {"rna": 3, "image": 32}
    return {
        name: [int(cell.flatten()[0].item()) // first[name] for cell in cells]
        for name, cells in minibatch["cells"].items()
    }


# Split


def split(codes: Any, train_size: float = 0.9, validation_size: float | None = None, seed: int = 0) -> list[list[int]]:
    parts = split_cells(np.asarray(codes), train_size, validation_size, np.random.default_rng(seed))
    return [part.tolist() for part in parts]


@pytest.mark.parametrize(
    ("train_size", "validation_size", "n_expected"),
    [(0.9, None, (180, 20, 0)), (0.8, 0.1, (160, 20, 20)), (0.5, 0.5, (100, 100, 0)), (1.0, None, (200, 0, 0))],
)
def test_parts_have_the_promised_sizes_and_hold_every_cell_once(
    train_size: float, validation_size: float | None, n_expected: tuple[int, int, int]
) -> None:
    parts = split(np.random.default_rng(1).integers(0, 10, 200), train_size, validation_size)
    assert tuple(map(len, parts)) == n_expected
    assert sorted(sum(parts, [])) == list(range(200))
    assert all(part == sorted(part) for part in parts)


def test_every_context_loses_its_share_whatever_its_size() -> None:
    sizes = np.array([101, 51, 21, 11, 11])
    codes = np.random.default_rng(2).permutation(np.repeat(np.arange(5), sizes))
    for seed in range(10):
        train, validation, test = split(codes, 0.7, 0.2, seed)
        for part, share in [(train, 0.7), (validation, 0.2), (test, 0.1)]:
            counts = np.bincount(codes[part], minlength=5)
            assert np.abs(counts - share * sizes).max() <= 2


@pytest.mark.parametrize("train_size", [0.01, 0.3, 0.9])
def test_one_cell_of_every_context_always_trains(train_size: float) -> None:
    codes = [0, 0, 0, 0, 1, 2, 2, 3]
    train, *_ = split(codes, train_size)
    assert {codes[row] for row in train} == {0, 1, 2, 3}


def test_a_context_with_one_cell_is_never_held_out() -> None:
    for seed in range(20):
        train, validation, test = split([0] * 10 + [1], 0.5, seed=seed)
        assert 10 in train


def test_which_cells_are_held_out_is_random_and_depends_on_the_seed_alone() -> None:
    codes = np.zeros(50, dtype=int)
    assert split(codes, 0.5, seed=1) == split(codes, 0.5, seed=1)
    assert split(codes, 0.5, seed=1) != split(codes, 0.5, seed=2)
    held_out = np.zeros(50)
    for seed in range(200):
        held_out[split(codes, 0.5, seed=seed)[1]] += 1
    assert held_out.min() > 60  # of 100 expected, standard deviation 7
    assert held_out.max() < 140


def test_no_cells_split_into_nothing() -> None:
    assert split(np.array([], dtype=int)) == [[], [], []]


@pytest.mark.parametrize(
    ("train_size", "validation_size"), [(0.0, None), (1.1, None), (-0.5, 0.1), (0.9, -0.1), (0.9, 0.2), (0.5, 1.1)]
)
def test_impossible_fractions_are_refused_with_their_values(train_size: float, validation_size: float | None) -> None:
    with pytest.raises(ValueError, match=rf"train_size={train_size}.*for example train_size=0\.9"):
        split([0, 0, 1], train_size, validation_size)


# Dataset


def test_a_minibatch_is_read_document_by_document_in_the_dtype_of_its_store() -> None:
    dataset = DocumentDataset({"image": open_rows(IMAGES), "rna": open_rows(sparse.csr_matrix(COUNTS))})
    rows = {"image": np.array([[7, 0], [7, 3]]), "rna": np.array([[1, 1, 2], [0, 5, 4]])}
    minibatch = dataset[DocumentRows(np.array([4, 2]), rows)]
    assert minibatch["context"].tolist() == [4, 2]
    assert torch.equal(minibatch["cells"]["image"], torch.from_numpy(IMAGES[[7, 0, 7, 3]]))
    assert torch.equal(minibatch["cells"]["rna"], torch.from_numpy(COUNTS[[1, 1, 2, 0, 5, 4]]))
    assert minibatch["cells"]["image"].dtype == torch.uint16
    assert minibatch["cells"]["rna"].dtype == torch.float32


# Loaders


def test_loaders_yield_cells_and_contexts_of_the_promised_shapes() -> None:
    loaders = datamodule(n_contexts_per_minibatch=2, n_cells_per_context=3, train_size=0.5)
    for loader in (loaders.train_dataloader(), loaders.val_dataloader()):
        minibatches = list(loader)
        assert len(minibatches) == len(loader) > 0
        for minibatch in minibatches:
            assert set(minibatch) == {"cells", "context"}
            assert minibatch["context"].shape == (2,)
            assert minibatch["context"].dtype == torch.int64
            shapes = {"image": (6, 2, 4, 4), "rna": (6, 3)}
            assert {name: tuple(cells.shape) for name, cells in minibatch["cells"].items()} == {
                name: shapes[name] for name in minibatch["cells"]
            }


def test_images_stay_integers_on_their_way_through_the_loader() -> None:
    (minibatch, *_) = datamodule({"image": CODES["image"]}).train_dataloader()
    assert minibatch["cells"]["image"].dtype == torch.uint16


def test_loaders_read_cells_of_their_own_part_and_of_the_right_context() -> None:
    loaders = datamodule(n_contexts_per_minibatch=2, n_cells_per_context=3, train_size=0.6)
    for loader, part in [(loaders.train_dataloader(), loaders.train_idx), (loaders.val_dataloader(), loaders.val_idx)]:
        for minibatch in loader:
            for name, rows in rows_of(minibatch).items():
                assert set(rows) <= set(part[name].tolist())
                assert CODES[name][rows].tolist() == minibatch["context"].repeat_interleave(3).tolist()


def test_cell_counts_and_indices_of_the_split_are_public() -> None:
    loaders = datamodule(train_size=0.8, validation_size=0.1)
    assert loaders.n_train == 80
    assert loaders.n_val == 10
    for name, n_cells in [("image", N_IMAGE), ("rna", N_RNA)]:
        parts = [part[name] for part in (loaders.train_idx, loaders.val_idx, loaders.test_idx)]
        assert sorted(np.concatenate(parts).tolist()) == list(range(n_cells))


def test_split_does_not_depend_on_the_order_of_the_modalities() -> None:
    swapped = {name: CODES[name] for name in reversed(CODES)}
    first, second = datamodule(CODES).val_idx, datamodule(swapped).val_idx
    assert {name: rows.tolist() for name, rows in first.items()} == {n: r.tolist() for n, r in second.items()}


def test_modalities_with_equal_codes_are_split_independently() -> None:
    codes = {"rna": np.zeros(40, dtype=int), "image": np.zeros(40, dtype=int)}
    validation = datamodule(codes, train_size=0.5).val_idx
    assert validation["rna"].tolist() != validation["image"].tolist()


def test_training_documents_change_with_the_epoch_and_validation_documents_do_not() -> None:
    loaders = datamodule(train_size=0.5, n_contexts_per_minibatch=1, n_cells_per_context=3)
    train, validation = loaders.train_dataloader(), loaders.val_dataloader()
    drawn: dict[str, list[Any]] = {"train": [], "validation": []}
    for epoch in range(2):
        for name, loader in [("train", train), ("validation", validation)]:
            loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
            drawn[name].append([rows_of(minibatch) for minibatch in loader])
    assert drawn["train"][0] != drawn["train"][1]
    assert drawn["validation"][0] == drawn["validation"][1]


def test_seed_decides_split_and_draws() -> None:
    def documents(seed: int) -> list[Any]:
        loaders = datamodule(seed=seed, n_contexts_per_minibatch=1, n_cells_per_context=3)
        return [rows_of(minibatch) for minibatch in loaders.train_dataloader()]

    assert documents(1) == documents(1)
    assert documents(1) != documents(2)
    first, second = (datamodule(seed=seed).val_idx["image"].tolist() for seed in (1, 2))
    assert first != second


def test_without_validation_cells_there_is_no_validation_loader() -> None:
    loaders = datamodule(train_size=1.0)
    assert loaders.n_val == 0
    assert loaders.val_dataloader() == []


def test_validation_leaves_out_contexts_that_lost_a_modality_and_keeps_those_that_never_had_it() -> None:
    """Context 1 has one transcriptome, which trains, so its held-out images would form documents of another kind."""
    codes = {"rna": np.array([0] * 39 + [1]), "image": np.arange(60) % 3}
    loaders = datamodule(codes, train_size=0.5, n_contexts_per_minibatch=1, n_cells_per_context=3)
    contexts = {c for minibatch in loaders.val_dataloader() for c in minibatch["context"].tolist()}
    assert contexts == {0, 2}
    assert 1 in codes["image"][loaders.val_idx["image"]]


def test_if_every_validation_context_lost_a_modality_all_are_kept() -> None:
    codes = {"rna": np.arange(3), "image": np.arange(60) % 3}
    loader = datamodule(codes, train_size=0.5).val_dataloader()
    assert {c for minibatch in loader for c in minibatch["context"].tolist()} == {0, 1, 2}


def trainer_on(device: str, rank: int = 0, world_size: int = 1) -> Any:
    """What a data module asks its trainer for."""
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(strategy=strategy, global_rank=rank, world_size=world_size)


@pytest.mark.parametrize(
    ("device", "asked", "expected"),
    [("cpu", None, False), ("cuda:1", None, True), ("mps", None, False), ("cpu", True, True), ("cuda", False, False)],
)
def test_minibatches_are_pinned_for_cuda_unless_told_otherwise(device: str, asked: bool | None, expected: bool) -> None:
    loaders = datamodule(pin_memory=asked)
    loaders.trainer = trainer_on(device)
    assert {loaders.train_dataloader().pin_memory, loaders.val_dataloader().pin_memory} == {expected}  # type: ignore[union-attr]


def test_without_a_trainer_nothing_is_pinned() -> None:
    assert not datamodule().train_dataloader().pin_memory


def test_copies_to_a_gpu_do_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    minibatch = next(iter(datamodule().train_dataloader()))
    copies = []

    def to(tensor: torch.Tensor, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        copies.append((device.type, non_blocking))
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", to)
    module: Any = torch.nn.Module()
    module.modalities = ("image", "rna")
    plan = PETRITrainingPlan(module)  # Lightning asks it to move minibatches
    plan.transfer_batch_to_device(minibatch, torch.device("cuda"), 0)
    assert copies == 3 * [("cuda", True)]  # images, expression and contexts


@pytest.mark.parametrize("name", ["draw_runs", "pin_memory"])
def test_text_is_no_flag(name: str) -> None:
    arguments: dict[str, Any] = {name: "no"}
    with pytest.raises(ValueError, match=f"{name}='no'; pass {name}=True or {name}=False"):
        datamodule(**arguments)


def test_each_process_reads_its_own_share() -> None:
    loaders = datamodule(n_contexts_per_minibatch=1, n_cells_per_context=3, train_size=1.0)
    drawn = []
    for rank in range(2):
        loaders.trainer = trainer_on("cpu", rank, world_size=2)
        drawn.append([rows_of(minibatch) for minibatch in loaders.train_dataloader()])
    assert [len(minibatches) for minibatches in drawn] == [10, 10]  # 60 images in 2 x 10 minibatches of 3
    assert drawn[0] != drawn[1]


def test_a_loader_goes_on_where_another_one_stood_and_not_in_another_epoch() -> None:
    def started(epoch: int) -> Any:
        loader: Any = datamodule(n_contexts_per_minibatch=1, n_cells_per_context=3).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return loader

    first = started(2)
    minibatches = iter(first)
    drawn = [rows_of(next(minibatches)) for _ in range(3)]  # more are read ahead
    state = first.state_dict()
    assert state == {"epoch": 2, "n_minibatches": 3}
    whole, next_epoch = ([rows_of(m) for m in started(epoch)] for epoch in (2, 3))
    for epoch, expected in ((2, whole[3:]), (3, next_epoch)):
        loader = started(epoch)
        loader.load_state_dict(state)
        assert [rows_of(m) for m in loader] == expected
        assert loader.state_dict()["n_minibatches"] == len(whole)
        assert len([*loader]) == len(whole)
    assert drawn + whole[3:] == whole


@pytest.mark.parametrize("name", ["n_contexts_per_minibatch", "n_cells_per_context"])
def test_a_minibatch_of_nothing_is_refused(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name}=0; it must be at least 1"):
        datamodule(CODES, **settings)


# Reading ahead


def n_threads() -> int:
    return sum(thread.name == "petri_scvi-prefetch" for thread in threading.enumerate())


def test_items_come_in_order_and_none_is_lost() -> None:
    assert list(prefetch(iter([3, None, 1, 2]), n_ahead=1)) == [3, None, 1, 2]
    assert list(prefetch([])) == []


def test_the_next_item_is_made_while_the_current_one_is_used() -> None:
    made = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for i in range(3):
            made.release()
            yield i

    ahead = prefetch(items())
    assert next(ahead) == 0
    # Nobody asked for the second item yet.
    assert made.acquire(timeout=10)
    assert made.acquire(timeout=10)
    assert list(ahead) == [1, 2]


def test_no_more_than_n_ahead_items_wait() -> None:
    made = []

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    ahead = prefetch(items(), n_ahead=2)
    next(ahead)
    threading.Event().wait(0.2)
    assert len(made) <= 4  # one used, two waiting, one in the hands of the thread
    ahead.close()


def test_an_error_reaches_the_caller_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("disk gone")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(ahead)
    assert n_threads() == 0


def test_leaving_early_ends_the_thread() -> None:
    for item in prefetch(iter(range(1000))):
        if item == 3:
            break
    assert n_threads() == 0
