"""Image crops as sprite sheets: one grey picture per channel and some hundred cells."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, features

from petri_scvi.pl.images._montage import read_rows

from ._cells import spread_evenly
from ._payload import in_base64

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from petri_scvi.pl.images._montage import Montage

    from ._payload import Payload

SHEET_PIXELS = 1024
N_FOR_RANGE = 500
"""Crops that say what is black and what is bright."""
KEPT = (0.2, 99.95)
"""Percentiles of the pixels of a channel that become 0 and 255."""
SHOWN = (1.0, 99.7)
"""Percentiles that are drawn black and bright, as in :func:`petri_scvi.pl.crops`."""
IS_WEBP = bool(features.check("webp"))
QUALITIES = (85, 70, 50)
"""Of WebP, tried in this order until all crops fit; the second is used where not even the last makes them fit."""
SAFETY = 0.95
"""Of the space is planned with: crops that were not tried may be harder to pack."""
N_WORKERS = 2
N_READ = 256
"""Crops that are read together where none of them is packed."""


@dataclass(frozen=True)
class Crops:
    """Crops that a page could show: rows of the images, cells of the page, and groups that are sampled alike.

    Those that are ``wanted`` come before a sample of the others.
    """

    montage: Montage
    rows: NDArray[np.intp]  # (n,)
    cells: NDArray[np.intp]  # (n,)
    groups: NDArray[np.intp]  # (n,)
    wanted: NDArray[np.bool_]  # (n,)


def add_crops(
    payload: Payload,
    crops: Crops,
    max_bytes: float,
    crop_size: int,
    seed: int,
    advance: Callable[[float], None],
    means: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Put as many crops as fit into the payload, spread evenly over groups; returns what the page has to know.

    ``means``, shape ``(n, C)``, is filled with the mean intensity of each channel of all crops, also of those that do
    not fit.
    """
    rng = np.random.default_rng(seed)
    n = len(crops.rows)
    sheets = _Sheets(crops.montage, crops.rows[rng.permutation(n)[:N_FOR_RANGE]], crop_size)
    quality, n_fit = sheets.best_quality(n, max_bytes)
    wanted = np.flatnonzero(crops.wanted)[: max(n_fit, 0)]
    others = np.setdiff1d(np.arange(n), wanted)
    chosen = np.concatenate([wanted, others[spread_evenly(crops.groups[others], max(n_fit, 0) - len(wanted), rng)]])
    # Cells of a group lie together, so that a montage reads few sheets.
    chosen = chosen[np.argsort(crops.groups[chosen], kind="stable")]
    left_out = np.empty(0, dtype=np.intp) if means is None else np.setdiff1d(np.arange(n), chosen)
    share = len(chosen) / max(len(chosen) + len(left_out), 1)
    of_chosen = sheets.write(payload, crops.rows[chosen], quality, lambda part: advance(share * part))
    if means is not None:
        means[chosen] = of_chosen
        for start in range(0, len(left_out), N_READ):
            part = left_out[start : start + N_READ]
            means[part] = _channel_means(read_rows(crops.montage.images, crops.rows[part]))
            advance(len(part) / n)
    return sheets.described() | {
        "cells": payload.array(crops.cells[chosen].astype(np.uint32)),
        "n": len(chosen),
        "total": n,
        "quality": quality if IS_WEBP else None,
    }


class _Sheets:
    """Sheets of square crops of one size."""

    def __init__(self, montage: Montage, trial: NDArray[np.intp], crop_size: int) -> None:
        self.montage = montage
        self.original = tuple(int(side) for side in montage.images.shape[2:])
        self.size = min(crop_size, max(self.original))
        self.per_row = max(1, SHEET_PIXELS // self.size)
        images = read_rows(montage.images, trial)[:, montage.channels]
        low, high = (np.nanpercentile(images, q, axis=(0, 2, 3)) for q in KEPT)
        self.low, self.span = low, np.maximum(high - low, 1e-6)
        self.shown = [
            np.clip(255 * (np.nanpercentile(images, q, axis=(0, 2, 3)) - low) / self.span, 0, 255) for q in SHOWN
        ]
        self._trial = self._scaled(images)

    def best_quality(self, n: int, max_bytes: float) -> tuple[int, int]:
        """The best quality at which ``n`` crops fit, and how many fit at the quality that is used."""
        n_fit = {}
        for quality in QUALITIES if IS_WEBP else QUALITIES[:1]:
            n_bytes = sum(len(self._encoded(plane, quality)) for plane in self._planes(self._trial))
            n_fit[quality] = int(SAFETY * max_bytes / (n_bytes / len(self._trial)))
            if n_fit[quality] >= n:
                return quality, n
        usual = QUALITIES[1] if IS_WEBP else QUALITIES[0]
        return usual, n_fit[usual]

    def write(
        self, payload: Payload, rows: NDArray[np.intp], quality: int, advance: Callable[[float], None]
    ) -> NDArray[np.float64]:
        """Read, pack and keep the crops of some rows, sheet by sheet; returns the means of all channels, ``(n, C)``."""
        per_sheet = self.per_row**2
        means = np.empty((len(rows), self.montage.images.shape[1]))
        with ThreadPoolExecutor(N_WORKERS) as pool:  # encoding does not hold the interpreter
            for number, start in enumerate(range(0, len(rows), per_sheet)):
                part = rows[start : start + per_sheet]
                images = read_rows(self.montage.images, part)
                means[start : start + per_sheet] = _channel_means(images)
                planes = self._planes(self._scaled(images[:, self.montage.channels]))
                texts = pool.map(lambda plane: self._encoded(plane, quality), planes)
                for channel, text in enumerate(texts):
                    payload.add(text, f"s{number}c{channel}")
                advance(len(part) / len(rows))
        return means

    def described(self) -> dict[str, Any]:
        """What the page has to know to cut crops out and to colour them."""
        channels = zip(self.montage.channel_names, self.montage.colours(), *self.shown, strict=True)
        return {
            "size": self.size,
            "original": self.original,
            "per_row": self.per_row,
            "type": "image/webp" if IS_WEBP else "image/png",
            "channels": [{"name": name, "colour": c, "low": low, "high": high} for name, c, low, high in channels],
        }

    def _scaled(self, images: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """Levels of 0 to 255, shape ``(n, C, H, W)`` -> ``(n, C, size, size)``."""
        low, span = self.low[:, None, None], self.span[:, None, None]
        levels = np.clip(255 * (np.nan_to_num(images) - low) / span, 0, 255)
        height, width = levels.shape[2:]
        side = max(height, width)
        if height != width:
            top, left = (side - height) // 2, (side - width) // 2
            ends = ((0, 0), (0, 0), (top, side - height - top), (left, side - width - left))
            levels = np.pad(levels, ends)
        if side > self.size:
            levels = np.stack([[self._reduced(plane) for plane in crop] for crop in levels])
        return np.round(levels).astype(np.uint8)

    def _reduced(self, plane: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Means of pixels, shape ``(H, W)`` -> ``(size, size)``."""
        small = Image.fromarray(plane.astype(np.float32)).resize((self.size, self.size), Image.Resampling.BOX)
        return np.asarray(small)

    def _planes(self, levels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """One picture per channel, crops in rows of ``per_row``."""
        n, n_channels, size, _ = levels.shape
        n_rows = -(-n // self.per_row)
        n_columns = min(n, self.per_row)
        full = np.zeros((n_rows * n_columns, n_channels, size, size), dtype=np.uint8)
        full[:n] = levels
        grid = full.reshape(n_rows, n_columns, n_channels, size, size)
        joined = grid.transpose(2, 0, 3, 1, 4).reshape(n_channels, n_rows * size, n_columns * size)
        return list(joined)

    def _encoded(self, plane: NDArray[np.uint8], quality: int) -> str:
        buffer = io.BytesIO()
        picture = Image.fromarray(plane)
        if IS_WEBP:
            picture.convert("RGB").save(buffer, "WEBP", quality=quality, method=2)
        else:
            picture.save(buffer, "PNG", optimize=True)
        return in_base64(buffer.getvalue())


def _channel_means(images: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Mean of the pixels that are not missing, shape ``(n, C, H, W)`` -> ``(n, C)``; NaN where all of them are."""
    means = images.mean(axis=(2, 3), dtype=np.float64)
    for crop, channel in np.argwhere(~np.isfinite(means)):
        pixels = images[crop, channel]
        is_known = np.isfinite(pixels)
        means[crop, channel] = pixels[is_known].mean(dtype=np.float64) if is_known.any() else np.nan
    return means
