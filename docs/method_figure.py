"""Draw the figure of the method: ``python docs/method_figure.py`` writes ``docs/_static/method.svg``."""

import random
from pathlib import Path

IMAGE, RNA, GREY, INK = "#3b6fb6", "#c8692b", "#d9dce1", "#2a2f36"
WIDTH, HEIGHT = 1040, 430
ROWS = {"image": 120, "rna": 275}
"""Height of the middle of each modality's row."""


def text(x: float, y: float, words: str, size: int = 13, weight: str = "normal", colour: str = INK) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="middle">'
        f"{words}</text>"
    )


def square(x: float, y: float, width: float, height: float, fill: str, more: str = "") -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" {more}/>'


def box(x: float, y: float, width: float, height: float, colour: str, *lines: str) -> list[str]:
    middle = y + height / 2 + 5 - 8.5 * (len(lines) - 1)
    outline = f'rx="8" stroke="{colour}" stroke-width="1.8"'
    words = [text(x + width / 2, middle + 17 * i, line, weight="600") for i, line in enumerate(lines)]
    return [square(x, y, width, height, "#ffffff", outline), *words]


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}" stroke-width="1.6" marker-end="url(#tip)"/>'


def image(x: float, y: float, visible: set[int], new: bool = False) -> list[str]:
    """36 patches of a cell that is bright in its middle; masked ones are grey, reconstructed ones are paler."""
    parts = [square(x - 2, y - 2, 64, 64, "#ffffff", 'rx="3" stroke="#9aa3ad"')]
    for patch in range(36):
        row, column = divmod(patch, 6)
        bright = max(0.15, 1 - (((row - 2.5) ** 2 + (column - 2.5) ** 2) ** 0.5) / 3.4)
        shown = patch in visible
        fill = IMAGE if shown or new else GREY
        opacity = bright if shown else 0.72 * bright if new else 1
        parts.append(square(x + 10 * column + 0.5, y + 10 * row + 0.5, 9, 9, fill, f'fill-opacity="{opacity:.2f}"'))
    return parts


def transcriptome(x: float, y: float, visible: set[int], heights: list[float], new: bool = False) -> list[str]:
    """16 genes as bars; masked ones are grey."""
    parts = [square(x - 2, y - 2, 64, 64, "#ffffff", 'rx="3" stroke="#9aa3ad"')]
    for gene in range(12):
        shown = gene in visible
        height = 56 * (heights[gene] if shown or new else 1)
        opacity = 1 if shown or not new else 0.6
        fill = RNA if shown or new else GREY
        parts.append(square(x + 5 * gene + 0.8, y + 58 - height, 3.6, height, fill, f'fill-opacity="{opacity}"'))
    return parts


def latents(x: float, y: float, colour: str, opacity: float = 1) -> list[str]:
    return [
        square(x + 12 * (i % 4), y + 12 * (i // 4), 10, 10, colour, f'rx="2" fill-opacity="{opacity}"')
        for i in range(8)
    ]


def figure() -> str:
    rng = random.Random(3)
    patches = [set(rng.sample(range(36), 9)) for _ in range(2)]
    genes = [set(rng.sample(range(12), 3)) for _ in range(2)]
    heights = [[rng.uniform(0.12, 1) for _ in range(12)] for _ in range(2)]
    colours = {"image": IMAGE, "rna": RNA}
    words = {"image": "image", "rna": "expression"}
    parts = [
        square(0, 0, WIDTH, HEIGHT, "#ffffff", 'rx="12"'),
        square(14, 46, 196, 322, "#f5f6f8", 'rx="10"'),
        text(112, 30, "document", 14, "700"),
        text(112, 388, "cells of one context, not paired;", 12),
        text(112, 404, "3/4 of patches and genes masked", 12),
        text(112, 68, "images", 12, "600", IMAGE),
        text(112, 223, "transcriptomes", 12, "600", RNA),
    ]
    for i, (x, shift) in enumerate(((36, 0), (126, 0))):
        parts += image(x, ROWS["image"] - 32 + shift, patches[i])
        parts += transcriptome(x, ROWS["rna"] - 32 + shift, genes[i], heights[i])
    for name, y in ROWS.items():
        colour = colours[name]
        parts += [arrow(210, y, 240, y), *box(246, y - 34, 106, 68, colour, words[name], "encoder")]
        parts += [arrow(352, y, 382, y), *latents(392, y - 34, colour), *latents(392, y + 12, colour)]
        parts += [arrow(448, y, 486, y)]
        parts += [arrow(606, y, 640, y), *latents(650, y - 34, colour, 0.6), *latents(650, y + 12, colour, 0.6)]
        parts += [
            arrow(706, y, 736, y),
            *box(742, y - 34, 106, 68, colour, words[name], "decoder"),
            arrow(848, y, 880, y),
        ]
    parts += box(492, 62, 114, 270, INK, "set", "transformer")
    parts += [
        text(549, 30, "cells exchange information", 14, "700"),
        text(416, 68, "latent tokens", 12, "600"),
        text(416, 205, "8 per cell", 12),
        text(948, 30, "reconstruction", 14, "700"),
        text(948, 388, "compared with the masked", 12),
        text(948, 404, "patches and genes", 12),
        *image(916, ROWS["image"] - 32, patches[0], new=True),
        *transcriptome(916, ROWS["rna"] - 32, genes[0], heights[0], new=True),
    ]
    parts += [
        f'<path d="M416 322 V376 H446" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#tip)"/>',
        square(454, 358, 300, 54, "#eef4ee", 'rx="8" stroke="#5b8a5b" stroke-width="1.8"'),
        text(604, 381, "embedding of a cell", 13, "700"),
        text(604, 400, "mean of its latent tokens, nothing masked", 12),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="Helvetica, Arial, sans-serif">\n'
        "<title>PETRI: a document of unpaired, masked cells, encoders, set transformer and decoders</title>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


if __name__ == "__main__":
    (Path(__file__).parent / "_static" / "method.svg").write_text(figure())
