"""Mean and spread over screens, paired differences with intervals, and the published numbers: table, CSV and figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import t as student_t

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COLUMNS = {
    "guide_consistency": "GC",
    "edge_tpr_at_5_fpr": "TPR at 5 % FPR",
    "edge_auc": "edge AUC",
    "well_auc": "well AUC",
    "foscttm": "FOSCTTM",
    "recall_at_10": "recall at 10",
    "context_share": "variance by context",
    "well_share": "by well",
    "modality_share": "by modality",
}
DRAWN = ("guide_consistency", "edge_tpr_at_5_fpr", "edge_auc", "well_auc")
"""Metrics with a panel in the figure."""
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


REFERENCE = "PETRI"
"""System that the others are subtracted from."""


def paired_differences(results: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Reference minus each other system on the same screens, with 95 % t-intervals over screens.

    Returns
    -------
    A row per system, modality, fusion and metric: ``mean``, ``half_width`` (NaN for a single screen) and ``n_screens``.
    Intervals are not corrected for their number.
    """
    values = results.pivot_table(index=[*NOT_BY_METRIC, "metric"], columns="seed", values="value", sort=False)
    ours = values[values.index.get_level_values("system") == reference].droplevel("system")
    others = values[values.index.get_level_values("system") != reference]
    rows = []
    for (system, *place), found in others.iterrows():
        if tuple(place) not in ours.index:
            continue
        gaps = (ours.loc[tuple(place)] - found).dropna()
        n = len(gaps)
        if n == 0:
            continue
        half = student_t.ppf(0.975, n - 1) * gaps.std() / np.sqrt(n) if n > 1 else np.nan
        rows.append((system, *place, gaps.mean(), half, n))
    return pd.DataFrame(rows, columns=[*NOT_BY_METRIC, "metric", "mean", "half_width", "n_screens"])


def draw_differences(differences: pd.DataFrame, path: Path, metric: str = "edge_auc") -> None:
    """One panel per modality, one row per system: how far the reference is ahead, with its interval."""
    shown = differences[(differences["metric"] == metric) & differences["fusion"].isin(["none", "concatenate"])]
    if shown.empty:
        return
    titles = {"image": "images", "rna": "RNA", "image+rna": "both, concatenated"}
    systems = list(dict.fromkeys(shown["system"]))
    canvas, axes = plt.subplots(1, 3, figsize=(10, 1 + 0.3 * len(systems)), sharey=True, layout="constrained")
    for axis, (modality, title) in zip(axes, titles.items(), strict=True):
        part = shown[shown["modality"] == modality].set_index("system").reindex(systems)
        is_known = part["mean"].notna().to_numpy()
        at = np.flatnonzero(is_known)
        # Blue: ahead by more than the interval; orange: behind by more; grey: not decided.
        low, high = part["mean"] - part["half_width"], part["mean"] + part["half_width"]
        colours = np.where(low > 0, "C0", np.where(high < 0, "C1", "0.6"))[is_known]
        axis.axvline(0, color="black", linewidth=0.8)
        axis.hlines(at, low[is_known], high[is_known], color=colours, linewidth=3)
        axis.scatter(part["mean"][is_known], at, color=colours, s=30, zorder=2)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(f"{COLUMNS[metric]}: {REFERENCE} minus other")
        axis.locator_params(axis="x", nbins=4)  # labels of neighbouring panels would run into each other
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(systems)), systems)
    axes[0].invert_yaxis()
    canvas.savefig(path, dpi=110)
    plt.close(canvas)


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
    differences = paired_differences(results)
    differences.to_csv(root / "differences.csv", index=False)
    draw_differences(differences, root / "differences.png")
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
    table = as_markdown(means, spreads, n_seeds, n_edges, missing, versions)
    (root / "summary.md").write_text(f"{table}\n{differences_as_markdown(differences)}")
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
    lines += [
        f"| {name} | not run: {reason.splitlines()[0]} |{' |' * (len(COLUMNS) + 3)}" for name, reason in missing.items()
    ]
    return "\n".join(lines) + "\n"


def differences_as_markdown(differences: pd.DataFrame) -> str:
    lines = [
        f"{REFERENCE} minus each other system on the same screens: mean and half width of the 95 % t-interval over "
        "screens, not corrected for the number of comparisons.\n",
        "| system | modality | fusion | screens | " + " | ".join(COLUMNS.values()) + " |",
        "| --- | --- | --- | ---: |" + " ---: |" * len(COLUMNS),
    ]
    for names, part in differences.groupby(NOT_BY_METRIC, sort=False):
        of_metric = part.set_index("metric")
        cells = [
            "" if metric not in of_metric.index else as_difference(*of_metric.loc[metric, ["mean", "half_width"]])
            for metric in COLUMNS
        ]
        lines.append("| " + " | ".join([*names, str(part["n_screens"].max()), *cells]) + " |")
    return "\n".join(lines) + "\n"


def as_difference(mean: float, half_width: float) -> str:
    return f"{mean:+.3f}" if np.isnan(half_width) else f"{mean:+.3f} ± {half_width:.3f}"


def as_number(mean: float, spread: float) -> str:
    if np.isnan(mean):
        return ""
    return f"{mean:.3f}" if np.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"


def draw(means: pd.DataFrame, spreads: pd.DataFrame, path: Path) -> None:
    """One panel per metric, one row per system and way of joining modalities."""
    labels = [f"{system} | {modality if fusion == 'none' else fusion}" for system, modality, fusion in means.index]
    shown = [metric for metric in DRAWN if means[metric].notna().any()]
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
