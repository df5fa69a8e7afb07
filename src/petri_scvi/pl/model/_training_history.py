"""Loss curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from petri_scvi.pl._axes import inner_legend, open_axes, plot
from petri_scvi.pl._colours import PALETTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes

    from petri_scvi.pl._axes import Save


@plot
def training_history(
    history: Mapping[str, pd.DataFrame],
    *,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot training and validation loss by epoch.

    Parameters
    ----------
    history
        ``model.history``.
    modality
        Draw the loss of this modality; by default the weighted sum that is minimised.
    ax
        Axes to draw on; a new figure if ``None``.
    show
        Display the figure and return ``None``. By default a new figure is displayed as ``sc.settings.autoshow`` says.
    save
        File to write. As in scanpy, ``True`` and a string such as ``"_a.pdf"`` write to ``sc.settings.figdir``, under
        the name of the function and this suffix; a path with a folder or a :class:`pathlib.Path` is taken as it is. By
        default a new figure is written as ``sc.settings.autosave`` says.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        The history has no such loss.
    """
    suffix = "" if modality is None else f"_{modality}"
    if f"train_loss{suffix}" not in history:
        raise KeyError(f"the history has no 'train_loss{suffix}'; it has {sorted(history)}. Call model.train() first.")
    with open_axes(ax, 3.5, 3) as ax:
        for part, colour in [("train", PALETTE[0]), ("validation", PALETTE[1])]:
            losses = history.get(f"{part}_loss{suffix}")
            if losses is not None:
                curve = losses.iloc[:, 0].astype(float)
                ax.plot(curve.index + 1, curve, color=colour, label=part, marker="." if len(curve) < 30 else None)
        ax.set(xlabel="Epoch", ylabel="Loss" if modality is None else f"Loss, {modality}")
        inner_legend(ax)
    return ax
