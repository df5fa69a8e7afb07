"""Mean and spread over seeds of the comparison, beside the published numbers: table, CSV and figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COLUMNS = {
    "guide_consistency": "GC",
    "edge_tpr_at_5_fpr": "TPR at 5 % FPR",
    "edge_auc": "edge AUC",
    "well_auc": "well AUC",
}
NOT_BY_METRIC = ["system", "modality", "fusion"]
# Of the paper, on its own screens: no number here is comparable with a synthetic one.
PUBLISHED = pd.DataFrame(
    [
        ("published: PETRI, Perturb-Multi", 0.208, 0.260, np.nan),
        ("published: best other, Perturb-Multi", 0.059, 0.109, np.nan),
        ("published: PETRI, HepG2", 0.278, 0.242, 0.628),
        ("published: PCA of expression, HepG2", 0.304, np.nan, np.nan),
        ("published: max-cosine late fusion, HepG2", np.nan, 0.219, np.nan),
        ("published: ViT MAE, HepG2", np.nan, np.nan, 0.549),
        ("published: transcriptome MAE, HepG2", np.nan, np.nan, 0.556),
    ],
    columns=["system", "guide_consistency", "edge_tpr_at_5_fpr", "edge_auc"],
)


def write_summary(root: Path, order: Iterable[str], versions: str, seeds: Iterable[int]) -> None:
    """Write ``summary.csv``, ``summary.md`` and ``summary.png`` from what is done of these seeds, systems in order."""
    folders = [root / f"seed_{seed}" for seed in seeds]
    files = [file for folder in folders for file in folder.glob("*.csv") if not file.name.startswith("partial_")]
    place = {name: i for i, name in enumerate(order)}
    files.sort(key=lambda file: (place.get(file.stem, len(place)), file))
    results = [pd.read_csv(file).assign(seed=file.parent.name) for file in files]
    if not results:
        return
    results = pd.concat(results)
    results.to_csv(root / "results.csv", index=False)
    grouped = results.groupby([*NOT_BY_METRIC, "metric"], sort=False)["value"].agg(["mean", "std", "count"])
    grouped.to_csv(root / "summary.csv")
    rows = results[NOT_BY_METRIC].drop_duplicates()
    means, spreads = (
        grouped[column].unstack("metric").reindex(index=pd.MultiIndex.from_frame(rows), columns=list(COLUMNS))
        for column in ("mean", "std")
    )
    n_seeds = results.groupby(NOT_BY_METRIC, sort=False)["seed"].nunique()
    n_edges = results[results["metric"] == "edge_auc"].groupby(NOT_BY_METRIC, sort=False)["n"].mean()
    missing = {
        f"{path.stem}, {path.parent.name}": path.read_text()
        for folder in folders
        for path in sorted(folder.glob("*.not_run"))
    }
    (root / "summary.md").write_text(as_markdown(means, spreads, n_seeds, n_edges, missing, versions))
    draw(means, spreads, root / "summary.png")


def as_markdown(
    means: pd.DataFrame,
    spreads: pd.DataFrame,
    n_seeds: pd.Series,
    n_edges: pd.Series,
    missing: dict[str, str],
    versions: str,
) -> str:
    lines = [
        f"Mean and standard deviation over screens ({versions}); the settings are in `settings.json`. Rows with other "
        "numbers of known edges are of other genes: a shared space has those seen in one modality only, too.\n",
        "| system | modality | fusion | screens | edges | " + " | ".join(COLUMNS.values()) + " |",
        "| --- | --- | --- | ---: | ---: |" + " ---: |" * len(COLUMNS),
    ]
    for names, mean in means.iterrows():
        spread = spreads.loc[names]
        cells = [as_number(mean[metric], spread[metric]) for metric in COLUMNS]
        counts = [str(n_seeds[names]), f"{n_edges[names]:.0f}" if names in n_edges else ""]
        lines.append("| " + " | ".join([*names, *counts, *cells]) + " |")
    for _, row in PUBLISHED.iterrows():
        cells = [as_number(row.get(metric, np.nan), np.nan) for metric in COLUMNS]
        lines.append("| " + " | ".join([row["system"], "", "", "", "", *cells]) + " |")
    lines += [f"| {name} | not run: {reason.splitlines()[0]} | | | | | | | |" for name, reason in missing.items()]
    return "\n".join(lines) + "\n"


def as_number(mean: float, spread: float) -> str:
    if np.isnan(mean):
        return ""
    return f"{mean:.3f}" if np.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"


def draw(means: pd.DataFrame, spreads: pd.DataFrame, path: Path) -> None:
    """One panel per metric, one row per system and way of joining modalities."""
    labels = [f"{system} | {modality if fusion == 'none' else fusion}" for system, modality, fusion in means.index]
    shown = [metric for metric in COLUMNS if means[metric].notna().any()]
    canvas, axes = plt.subplots(
        1, len(shown), figsize=(4 + 2.3 * len(shown), 1 + 0.19 * len(labels)), sharey=True, layout="constrained"
    )
    colours = ["C0" if name.startswith("PETRI") else "0.45" for name in means.index.get_level_values("system")]
    for axis, metric in zip(np.atleast_1d(axes), shown, strict=True):
        axis.hlines(range(len(labels)), 0, 1, color="0.93", linewidth=0.8, zorder=0)
        axis.errorbar(means[metric], range(len(labels)), xerr=spreads[metric], fmt="none", ecolor="0.6", linewidth=1)
        axis.scatter(means[metric], range(len(labels)), color=colours, s=16, zorder=2)
        axis.set_xlabel(COLUMNS[metric])
        # Areas under a curve have 0.5 by chance; one below that is shown, too.
        low = 0.5 if metric.endswith("auc") and means[metric].min() >= 0.5 else 0.0
        axis.set_xlim(low - 0.03 * (1 - low), 1 + 0.03 * (1 - low))
        axis.set_xticks([low, (1 + low) / 2, 1])
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    np.atleast_1d(axes)[0].set_yticks(range(len(labels)), labels, fontsize=7)
    np.atleast_1d(axes)[0].invert_yaxis()
    canvas.savefig(path, dpi=110)
    plt.close(canvas)
