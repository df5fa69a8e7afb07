"""Train on several devices, with workarounds for scvi-tools and Lightning."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning.pytorch.strategies import DDPStrategy
from scvi.train import LoudEarlyStopping

if TYPE_CHECKING:
    from collections.abc import Iterator

LOST_CONTACT = re.compile(
    r"connection (closed|reset|refused)|broken pipe|gloo|nccl|timed? ?out|socket|peer|store", re.IGNORECASE
)
"""What the messages of torch's backends have in common when a process does not answer."""

PRECISIONS = ("None", "32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed")


def is_data_parallel(strategy: Any) -> bool:
    """Whether Lightning's strategy is distributed data parallel, for which scvi-tools makes exceptions."""
    return "ddp" in strategy if isinstance(strategy, str) else isinstance(strategy, DDPStrategy)


def allow_unused_parameters(strategy: Any) -> Any:
    """The same strategy for minibatches that lack a modality, so that its encoder gets no gradient.

    torch would wait for it, and fail in the step after. A strategy object is not changed.
    """
    is_plain = strategy in ("ddp", "ddp_fork", "ddp_notebook")
    return f"{strategy}_find_unused_parameters_true" if is_plain else strategy


def check_strategy(strategy: Any) -> None:
    """Refuse strategies that cannot work.

    Raises
    ------
    ValueError
        The strategy would hand the data to new processes, which AnnData does not allow, so that they would wait
        forever; or it shards the weights.
    """
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    if name.startswith("ddp_spawn"):
        raise ValueError(
            f"strategy={name!r} cannot hand an AnnData to the processes it starts. Pass strategy='ddp' in a script, or "
            "'ddp_notebook' in a notebook."
        )
    if name.lower().startswith(("fsdp", "modelparallel", "deepspeed")):
        raise ValueError(
            f"strategy={name!r} shards the weights of a model over the devices, which is not supported: the model fits "
            "on every device. Pass strategy='ddp', with which each device trains on its own documents."
        )


def check_precision(precision: Any) -> None:
    """Refuse precisions in which weights are not float32: statistics, losses and saved models are.

    Raises
    ------
    ValueError
        The precision is another one.
    """
    if str(precision) not in PRECISIONS:
        raise ValueError(
            f"precision={precision!r}; expected '32-true', 'bf16-mixed' or '16-mixed', which keep the weights in "
            "float32. With the mixed ones, layers compute in 16 bits."
        )


def early_stopping_callback(trainer_kwargs: dict[str, Any]) -> LoudEarlyStopping:
    """Early stopping for DDP, as scvi-tools' trainer adds it for a single device.

    ``validation_loss`` is the same number on every process, and Lightning stops all of them if one stops.

    Parameters
    ----------
    trainer_kwargs
        Arguments of :class:`scvi.train.Trainer`; those of early stopping are read.
    """
    names = {"monitor": None, "min_delta": 0.0, "patience": 45, "mode": "min", "warmup_epochs": 0}
    return LoudEarlyStopping(
        **{name: trainer_kwargs.get(f"early_stopping_{name}", default) for name, default in names.items()}
    )


@contextmanager
def early_stopping_is_ours() -> Iterator[None]:
    """Suppress scvi-tools' warning that early stopping was disabled."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="early_stopping was automatically disabled")
        yield


@contextmanager
def lost_processes_are_named(trainer: Any, checkpoint: Any) -> Iterator[None]:
    """Explain the error when another process of the run no longer answers.

    Parameters
    ----------
    trainer
        The trainer that runs.
    checkpoint
        File to resume from, or ``None``.

    Raises
    ------
    RuntimeError
        Instead of the error of torch's backend.
    """
    rank, n_processes = trainer.global_rank, trainer.world_size  # the trainer forgets them when it fails
    try:
        yield
    except RuntimeError as error:
        if n_processes == 1 or not LOST_CONTACT.search(str(error)):
            raise
        again = (
            "Start the run again without changes: it goes on from checkpoint."
            if checkpoint
            else "Next time pass checkpoint='training.ckpt' to train(), so that a run can go on where it was."
        )
        raise RuntimeError(
            f"process {rank} of {n_processes} lost contact with another one in step "
            f"{trainer.global_step}: that one was killed, ran out of memory or failed; see its output. "
            f"{again}"
        ) from error
