"""Baselines that are computed, not trained in epochs."""

from __future__ import annotations

import functools
from inspect import signature
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def no_epochs(train: Callable[P, R]) -> Callable[P, R]:
    """Refuse ``max_epochs`` and the other arguments that ``train`` has in models that are trained in epochs."""
    parameters = signature(train)
    named = [f"{name}=..." for name in parameters.parameters if name != "self"]

    @functools.wraps(train)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            parameters.bind(*args, **kwargs)
        except TypeError:
            model = type(args[0]).__name__
            given = [*map(repr, args[1:]), *(f"{name}={value!r}" for name, value in kwargs.items())]
            raise TypeError(
                f"{model}.train({', '.join(given)}) is not accepted: {model} is computed from the cells, and "
                f"there are no epochs, minibatches, held-out cells or trainer. Call train({', '.join(named)})."
            ) from None
        return train(*args, **kwargs)

    return checked
