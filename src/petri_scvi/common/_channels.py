"""Names of image channels, and the positions that names stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi._constants import CHANNEL_NAMES_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def stored_channel_names(adata: AnnData) -> list[str] | None:
    """Names from ``uns["channel_names"]``, else from scPortrait's ``var["channels"]``; ``None`` if it has neither."""
    if CHANNEL_NAMES_KEY in adata.uns:
        return [str(name) for name in adata.uns[CHANNEL_NAMES_KEY]]
    if "channels" in adata.var:
        return adata.var["channels"].astype(str).tolist()
    return None


def channel_names(adata: AnnData, n_channels: int, where: str) -> list[str]:
    """Name of each channel of the crops; ``"0"``, ``"1"`` and so on where none are stored.

    Parameters
    ----------
    adata
        The imaging modality.
    n_channels
        Channels of its crops.
    where
        The modality as a user would write it, for example ``"mdata['image']"``.

    Raises
    ------
    ValueError
        There is not one stored name per channel, or two are the same.
    """
    names = given_channel_names(adata, n_channels)
    if names is None:
        return [str(i) for i in range(n_channels)]
    if len(names) != n_channels or len(set(names)) != n_channels:
        raise ValueError(
            f"{where}.uns[{CHANNEL_NAMES_KEY!r}] is {names}, but its crops have {n_channels} channels. Give one unique "
            "name per channel."
        )
    return names


def given_channel_names(adata: AnnData, n_channels: int) -> list[str] | None:
    """Stored names of the channels; ``None`` also where ``var["channels"]`` describes genes."""
    names = stored_channel_names(adata)
    is_of_genes = names is not None and CHANNEL_NAMES_KEY not in adata.uns and len(names) != n_channels
    return None if is_of_genes else names


def find_channel(channel: str | int, names: Sequence[str], argument: str, where: str) -> int:
    """Position of a channel, given by name or position; a matching name takes precedence."""
    if isinstance(channel, str) and channel in names:
        return list(names).index(channel)
    if isinstance(channel, int | np.integer) and not isinstance(channel, bool) and 0 <= channel < len(names):
        return int(channel)
    raise ValueError(
        f"{argument}: channel {channel!r} is not in {where}, which has {[str(name) for name in names]}. Pass some of "
        f"these names, or their positions; if they are misnamed, set uns[{CHANNEL_NAMES_KEY!r}]."
    )


def find_channels(channels: Sequence[str | int] | None, names: Sequence[str], argument: str, where: str) -> list[int]:
    """Positions of channels, given by name or position; all if ``None``.

    Parameters
    ----------
    channels
        Names or positions.
    names
        Names of all channels.
    argument
        Argument that ``channels`` was passed as.
    where
        What has the channels, as a user would write it.

    Raises
    ------
    ValueError
        A channel does not exist or is repeated, or none is named.
    """
    if channels is None:
        return list(range(len(names)))
    if isinstance(channels, str):
        raise ValueError(f"{argument}={channels!r} is one string; pass a list, such as [{channels!r}].")
    if not len(channels):
        raise ValueError(
            f"{argument} is empty; name at least one of {[str(name) for name in names]}, or pass None for all."
        )
    positions = [find_channel(channel, names, argument, where) for channel in channels]
    if len(set(positions)) < len(positions):
        chosen = [str(names[position]) for position in positions]
        raise ValueError(f"{argument} names a channel twice: {chosen}. Name each once.")
    return positions
