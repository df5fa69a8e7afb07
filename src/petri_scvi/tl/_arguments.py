"""Checks of arguments that several ``tl`` functions share."""

from __future__ import annotations


def check_alpha(alpha: float) -> None:
    """Require a significance level between 0 and 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha!r} is not accepted; pass a rate between 0 and 1, for example 0.05")


def check_choice(name: str, value: object, accepted: tuple[str, ...]) -> None:
    """Require one of the accepted values."""
    if value not in accepted:
        raise ValueError(f"{name}={value!r} is not accepted; pass one of {list(accepted)}")


def check_folds(n_folds: int) -> None:
    """Require at least two folds of a cross-validation."""
    if n_folds < 2:
        raise ValueError(f"n_folds={n_folds!r} is not accepted; pass 2 or more")
