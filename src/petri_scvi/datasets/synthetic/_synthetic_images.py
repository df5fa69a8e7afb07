"""Image crops of a synthetic screen, drawn from a few shapes per cell."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._synthetic_design import MORPHOLOGY, cell_effects
from ._synthetic_realism import staining_of_wells

if TYPE_CHECKING:
    import pandas as pd

    from ._synthetic_design import ScreenDesign
    from ._synthetic_realism import Realism

CHANNEL_NAMES = ("nucleus", "cell_body", "lipid_droplets", "mitochondria", "actin")
"""Order of the image channels."""

CELL_SPREAD = dict(zip(MORPHOLOGY, (0.08, 0.15, 0.35, 0.10, 0.20, 0.45, 0.25, 0.30, 1.0, 0.35), strict=True))
"""Standard deviation between untreated cells, per property."""

CROP = 32.0
"""Width of the field of view in the length unit used below; ``image_size`` only changes how finely it is sampled."""
MAX_DROPLETS = 18
N_CLUMPS = 6
N_MITOCHONDRIA = 6
N_SPOTS_PER_MITOCHONDRION = 8
CHUNK_PIXELS = 1_000_000
"""Cells are rendered in chunks of about this many pixels per channel, which bounds the memory used."""


@dataclass(frozen=True)
class Spots:
    """Round Gaussian spots of each cell; all arrays ``(n_cells, n_spots)``."""

    x: np.ndarray
    y: np.ndarray
    width: np.ndarray
    brightness: np.ndarray

    def render(self, axis: np.ndarray, rows: slice) -> np.ndarray:
        """Sum of the spots on the pixel grid, shape ``(rows, H, W)``. A Gaussian is separable, so this is a matmul."""
        scale = 1 / (2 * self.width[rows, :, None] ** 2)
        across = np.exp(-((axis - self.x[rows, :, None]) ** 2) * scale)  # (rows, n_spots, W)
        down = np.exp(-((axis - self.y[rows, :, None]) ** 2) * scale)  # (rows, n_spots, H)
        down *= self.brightness[rows, :, None]
        return np.matmul(down.transpose(0, 2, 1), across)


@dataclass(frozen=True)
class Scene:
    """Geometry of each cell, one row per cell; lengths in units of 1/32 of the crop."""

    x: np.ndarray  # centre of the cell
    y: np.ndarray
    angle: np.ndarray
    radius: np.ndarray
    elongation: np.ndarray  # log ratio of the axes
    lobes: np.ndarray  # (n_cells, 2), relative amplitude of the third angular harmonic
    nucleus_x: np.ndarray
    nucleus_y: np.ndarray
    nucleus_radius: np.ndarray
    brightness: dict[str, np.ndarray]  # channel name -> (n_cells,)
    clumps: Spots
    droplets: Spots
    mitochondria: Spots


def draw_images(
    design: ScreenDesign,
    obs: pd.DataFrame,
    image_size: int,
    dtype: np.dtype,
    rng: np.random.Generator,
    realism: Realism,
    of_realism: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one crop per cell.

    Returns
    -------
    Images, shape ``(n_cells, C, H, W)``, and the true properties of every cell, shape ``(n_cells, n_properties)``.
    """
    spread = np.array([CELL_SPREAD[name] for name in MORPHOLOGY])
    effects = cell_effects(design.target_morphology, design, obs)
    untreated = spread * rng.normal(size=effects.shape)
    if realism.backgrounds is not None:
        untreated += spread * realism.background_morphology[obs["background"].cat.codes]
    properties = effects + untreated
    same = _draw_scene(untreated, obs, deepcopy(rng)) if realism.equal_intensity else None
    scene = _draw_scene(properties, obs, rng)
    gain, background = _draw_staining(obs, rng)
    gain = (gain * staining_of_wells(obs, len(CHANNEL_NAMES), realism, of_realism)).astype(np.float32)

    n_cells, n_channels = len(obs), len(CHANNEL_NAMES)
    images = np.empty((n_cells, n_channels, image_size, image_size), dtype=dtype)
    n_rows = max(1, CHUNK_PIXELS // image_size**2)
    for start in range(0, n_cells, n_rows):
        rows = slice(start, min(start + n_rows, n_cells))
        signal = _render(scene, rows, image_size)  # (rows, C, H, W)
        if same is not None:  # each channel as bright in total as without the perturbation
            wanted = _render(same, rows, image_size).mean(axis=(2, 3), keepdims=True)
            signal *= wanted / signal.mean(axis=(2, 3), keepdims=True)
        signal *= gain[rows, :, None, None]
        signal += background[rows, :, None, None]
        images[rows] = _digitise(signal, dtype, rng)
    return images, properties


def _draw_scene(properties: np.ndarray, obs: pd.DataFrame, rng: np.random.Generator) -> Scene:
    """Place the cell, its nucleus, droplets and mitochondria at random."""
    n = len(properties)
    p = {name: properties[:, i].astype(np.float32) for i, name in enumerate(MORPHOLOGY)}
    cycle = obs["true_cell_cycle"].to_numpy(dtype=np.float32)
    radius = 10.0 * np.exp(np.clip(p["cell_size"] + 0.12 * (cycle - 0.4), -0.5, 0.4))
    nucleus_radius = 4.6 * np.exp(np.clip(p["nucleus_size"] + 0.25 * (cycle - 0.4), -0.5, 0.5))
    nucleus_radius = np.minimum(nucleus_radius, 0.75 * radius)
    x, y, nucleus_dx, nucleus_dy = rng.normal(0, [[1.6], [1.6], [0.9], [0.9]], size=(4, n)).astype(np.float32)
    angle = rng.uniform(0, np.pi, size=n).astype(np.float32)
    elongation = np.clip(0.25 + p["cell_elongation"], -0.2, 1.0)
    nucleus_x, nucleus_y = x + nucleus_dx, y + nucleus_dy

    cytoplasm = _Cytoplasm(x, y, angle, radius, elongation, nucleus_x, nucleus_y, nucleus_radius)
    n_droplets = rng.poisson(np.minimum(5.0 * np.exp(p["droplet_number"]), 40.0))[:, None]
    droplet_brightness = np.exp(p["droplet_brightness"])[:, None] * rng.lognormal(0, 0.3, size=(n, MAX_DROPLETS))
    droplet_x, droplet_y = cytoplasm.draw(MAX_DROPLETS, rng)
    clump_r = nucleus_radius[:, None] * np.sqrt(rng.random((n, N_CLUMPS))) * 0.75
    clump_t = rng.uniform(0, 2 * np.pi, size=(n, N_CLUMPS))
    clump_brightness = 0.25 * np.exp(p["nucleus_texture"])[:, None] * np.ones(N_CLUMPS)
    return Scene(
        x=x,
        y=y,
        angle=angle,
        radius=radius,
        elongation=elongation,
        lobes=rng.normal(0, 0.07, size=(n, 2)).astype(np.float32),
        nucleus_x=nucleus_x,
        nucleus_y=nucleus_y,
        nucleus_radius=nucleus_radius,
        brightness={
            # Replicated DNA is spread over a larger nucleus, so intensity rises less than content.
            "nucleus": np.exp(p["nucleus_intensity"]) * (0.85 + 0.4 * cycle),
            "cell_body": np.exp(rng.normal(0, 0.2, size=n)),
            "lipid_droplets": np.ones(n),
            "mitochondria": np.exp(p["mitochondria_intensity"]),
            "actin": np.exp(p["actin_rim"]),
        },
        clumps=_spots(
            nucleus_x[:, None] + clump_r * np.cos(clump_t),
            nucleus_y[:, None] + clump_r * np.sin(clump_t),
            0.9,
            clump_brightness,
        ),
        droplets=_spots(
            droplet_x,
            droplet_y,
            rng.uniform(0.7, 1.2, size=(n, MAX_DROPLETS)),
            droplet_brightness * (np.arange(MAX_DROPLETS) < n_droplets),
        ),
        mitochondria=_draw_mitochondria(cytoplasm, p["mitochondria_fragmentation"], rng),
    )


@dataclass(frozen=True)
class _Cytoplasm:
    """Where an organelle may lie: inside the cell, outside the nucleus."""

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    radius: np.ndarray
    elongation: np.ndarray
    nucleus_x: np.ndarray
    nucleus_y: np.ndarray
    nucleus_radius: np.ndarray

    def draw(self, n_spots: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Positions ``x`` and ``y``, each ``(n_cells, n_spots)``."""
        shape = (len(self.x), n_spots)
        theta = rng.uniform(0, 2 * np.pi, size=shape)
        r = 0.85 * self.radius[:, None] * np.sqrt(rng.uniform(0.05, 1.0, size=shape))
        along = r * np.cos(theta) * np.exp(self.elongation / 2)[:, None]
        across = r * np.sin(theta) * np.exp(-self.elongation / 2)[:, None]
        cos, sin = np.cos(self.angle)[:, None], np.sin(self.angle)[:, None]
        return self.outside_nucleus(
            self.x[:, None] + along * cos - across * sin, self.y[:, None] + along * sin + across * cos
        )

    def outside_nucleus(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Push positions that fall into the nucleus to its edge."""
        dx, dy = x - self.nucleus_x[:, None], y - self.nucleus_y[:, None]
        distance = np.hypot(dx, dy) + 1e-6
        push = np.maximum(1.0, (self.nucleus_radius[:, None] + 0.8) / distance)
        return self.nucleus_x[:, None] + dx * push, self.nucleus_y[:, None] + dy * push


def _draw_mitochondria(cytoplasm: _Cytoplasm, fragmentation: np.ndarray, rng: np.random.Generator) -> Spots:
    """Chains of spots that bend around the nucleus; a fragmented network has its spots scattered and rounder."""
    n, n_spots = len(fragmentation), N_MITOCHONDRIA * N_SPOTS_PER_MITOCHONDRION
    start_x, start_y = cytoplasm.draw(N_MITOCHONDRIA, rng)  # (n, n_mitochondria)
    dx, dy = start_x - cytoplasm.nucleus_x[:, None], start_y - cytoplasm.nucleus_y[:, None]
    heading = np.arctan2(dy, dx) + np.pi / 2 + rng.normal(0, 0.5, size=dx.shape)
    turn = rng.normal(0.15, 0.12, size=(n, N_MITOCHONDRIA, N_SPOTS_PER_MITOCHONDRION)).cumsum(axis=2)
    step = heading[:, :, None] + turn  # (n, n_mitochondria, n_spots_per_mitochondrion)
    chain_x = (start_x[:, :, None] + 1.1 * np.cos(step).cumsum(axis=2)).reshape(n, n_spots)
    chain_y = (start_y[:, :, None] + 1.1 * np.sin(step).cumsum(axis=2)).reshape(n, n_spots)
    chain_x, chain_y = cytoplasm.outside_nucleus(chain_x, chain_y)

    loose_x, loose_y = cytoplasm.draw(n_spots, rng)
    share = 1 / (1 + np.exp(2.0 - fragmentation))[:, None]
    is_loose = rng.random((n, n_spots)) < share
    width = np.where(is_loose, 0.85, 0.6)
    brightness = 0.3 * rng.lognormal(0, 0.2, size=(n, n_spots))
    return _spots(np.where(is_loose, loose_x, chain_x), np.where(is_loose, loose_y, chain_y), width, brightness)


def _spots(x: np.ndarray, y: np.ndarray, width: np.ndarray | float, brightness: np.ndarray) -> Spots:
    return Spots(*(np.broadcast_to(a, x.shape).astype(np.float32) for a in (x, y, width, brightness)))


def _render(scene: Scene, rows: slice, image_size: int) -> np.ndarray:
    """Noise-free signal of a chunk of cells, shape ``(rows, C, H, W)``."""
    axis = ((np.arange(image_size, dtype=np.float32) + 0.5) / image_size - 0.5) * CROP
    dx = axis[None, None, :] - scene.x[rows, None, None]  # (rows, 1, W)
    dy = axis[None, :, None] - scene.y[rows, None, None]  # (rows, H, 1)
    cos, sin = np.cos(scene.angle[rows, None, None]), np.sin(scene.angle[rows, None, None])
    squeeze = np.exp(scene.elongation[rows, None, None] / 2)
    u = (dx * cos + dy * sin) / squeeze  # (rows, H, W), along the long axis
    v = (dy * cos - dx * sin) * squeeze
    r = np.sqrt(u**2 + v**2) + 1e-3
    lobes = scene.lobes[rows]
    wobble = lobes[:, 0, None, None] * (u**3 - 3 * u * v**2) / r**3 + lobes[:, 1, None, None] * (u**2 - v**2) / r**2
    edge = scene.radius[rows, None, None] * (1 + wobble)
    outside = r - edge  # signed distance from the membrane
    body = 1 / (1 + np.exp(np.clip(outside / 0.6, -30, 30)))

    nucleus_r = np.hypot(
        axis[None, None, :] - scene.nucleus_x[rows, None, None], axis[None, :, None] - scene.nucleus_y[rows, None, None]
    )
    nucleus = 1 / (1 + np.exp(np.clip((nucleus_r - scene.nucleus_radius[rows, None, None]) / 0.4, -30, 30)))
    height = np.sqrt(np.clip(1 - (r / edge) ** 2, 0, 1))  # a cell is thickest in the middle

    channels = {
        "nucleus": nucleus * (0.6 + scene.clumps.render(axis, rows)),
        "cell_body": body * (0.35 + 0.5 * height) * (1 - 0.45 * nucleus),
        "lipid_droplets": 0.05 * body + 0.8 * scene.droplets.render(axis, rows),
        "mitochondria": 0.06 * body + scene.mitochondria.render(axis, rows) * body,
        "actin": 0.55 * np.exp(-((outside / 1.1) ** 2)) + 0.1 * body,
    }
    return np.stack([channels[c] * scene.brightness[c][rows, None, None] for c in CHANNEL_NAMES], axis=1)


def _draw_staining(obs: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gain and background of every cell and channel, shape ``(n_cells, C)``, set by its batch and well."""
    n_channels = len(CHANNEL_NAMES)
    gain = np.zeros((len(obs), n_channels))
    for key, scale in (("batch", 0.25), ("well", 0.12)):
        codes = obs[key].cat.codes.to_numpy()
        gain += rng.normal(0.0, scale, size=(codes.max() + 1, n_channels))[codes]
    batch = obs["batch"].cat.codes.to_numpy()
    background = rng.uniform(0.03, 0.08, size=(batch.max() + 1, n_channels))[batch]
    return np.exp(gain).astype(np.float32), background.astype(np.float32)


def _digitise(signal: np.ndarray, dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Shot noise of 200 photons per unit, read noise, and a range in which a signal of 2.5 saturates."""
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noisy = signal + noise * np.sqrt(signal / 200 + 0.01**2, dtype=np.float32)
    top = np.iinfo(dtype).max
    return np.clip(np.rint(noisy * (top / 2.5)), 0, top).astype(dtype)
