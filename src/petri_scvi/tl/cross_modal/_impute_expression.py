"""Predict the effect of a context on expression from its images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._checks import check_sizes
from petri_scvi._constants import CONTROL, RNA
from petri_scvi.common._labels import label_list
from petri_scvi.common._warn import warn
from petri_scvi.tl._results import one_or_several, write_result

from ._cells_to_reconstruct import check_kind, chosen_contexts, other_modality, target_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels

    from ._cells_to_reconstruct import TrainedModel

MIN_CONTEXTS = 3
PREDICTORS = ("predicted", "baseline", "assay")
CHUNK_CELLS = 1024


def impute_expression(
    model: TrainedModel,
    mdata: MuData | None = None,
    *,
    contexts: Labels | None = None,
    control: Labels = CONTROL,
    n_cells: int = 64,
    min_cells: int = 10,
    indices: Sequence[int] | None = None,
    modality: str = RNA,
    source: str | None = None,
    seed: int = 0,
) -> AnnData:
    """Predict how each context changes expression, from its images alone, and score it on held-out cells.

    Control transcriptomes are masked as in training and reconstructed twice: next to images of the context and next to
    images of the control. The model sees no transcriptome of the context. The difference between the two
    reconstructions is the predicted log fold change.

    Parameters
    ----------
    model
        A trained model of images and expression.
    mdata
        Data; that of the model if ``None``.
    contexts
        Contexts to predict, three or more; by default all but the control that have images and ``min_cells`` held-out
        transcriptomes.
    control
        Context of the transcriptomes that are reconstructed, or several that count as one.
    n_cells
        Control transcriptomes to reconstruct next to images of each context; at most as many as there are.
    min_cells
        Held-out transcriptomes that a context needs to be scored.
    indices
        Rows of ``mdata[modality]`` that count as held out. By default the validation cells of the model's own data, all
        cells of other data.
    modality
        Modality to predict: expression, or another matrix, such as proteins or a table of features.
    source
        Modality that is called "images" here, from which it is predicted; the other one by default. A model of more
        than two needs it.
    seed
        Seed of the choice of cells, of masks and of companions.

    Returns
    -------
    Contexts x genes. ``X`` is the predicted log fold change against the control (natural logarithm).

    - ``layers["observed"]``: that of the held-out transcriptomes. ``layers["baseline"]``: the mean of ``observed`` over
      all other contexts. ``layers["assay"]``: that of the transcriptomes of the context that are *not* held out, which
      is what measuring the context once more would predict; NaN where there are none.
    - ``obs``: ``n_cells`` held out and, over genes, the Pearson correlation of the observed fold changes with each of
      the three (``correlation_predicted``, ``correlation_baseline``, ``correlation_assay``) and their mean squared
      errors (``mse_predicted``, ...).
    - ``var``: over contexts, ``correlation_predicted``, ``correlation_assay``, the errors, and ``r2_predicted`` and
      ``r2_assay``, the share of the baseline's error that they remove: 0 is no better than the mean over contexts.
    - ``uns["petri_scvi"]["impute_expression"]``: ``summary``, one row per predictor with the means of these over
      contexts and genes and the median ``r2`` (the ``r2`` of a gene that hardly changes is arbitrary), and
      ``parameters``.

    Raises
    ------
    TypeError
        The model does not reconstruct cells, such as CLIP.
    ValueError
        The model knows one modality only or has no set transformer, a context has too few held-out cells or no images,
        fewer than three contexts are left to compare, or the control has too few cells for every gene to be masked at
        least once.

    Warns
    -----
    UserWarning
        Contexts have fewer than ``min_cells`` held-out transcriptomes, or no images, and are left out.

    Notes
    -----
    A model of counts is scored on fold changes of pseudobulk shares, with half a count added to every gene; a model of
    log-normalised values on differences of means. The correlation of the baseline over contexts is not reported,
    because leaving each context out of its own mean makes it negative.

    The transcriptomes of a context may have trained the model, next to its images. To predict contexts as if they had
    only been imaged, leave their transcriptomes out of the MuData used for training and pass one that has them as
    ``mdata``.
    """
    check_sizes(n_cells=n_cells, min_cells=min_cells)
    images = other_modality(model, modality, source)
    check_kind(model, modality, "expression_likelihood", "expression")
    labels = model.get_contexts(mdata, modality=modality)
    held_out = target_rows(model, mdata, modality, indices)
    of_control = label_list(control, "control")
    controls = chosen_contexts(
        held_out, labels, of_control, where=f"the held-out rows of mdata[{modality!r}]", argument="control"
    )
    imaged = set(model.get_contexts(mdata, modality=images).tolist())
    names = _contexts_to_score(labels[held_out], imaged, contexts, of_control, min_cells)
    genes = pd.Index(np.asarray(model.get_var_names()[modality]))
    others = np.setdiff1d(np.arange(len(labels)), held_out)
    is_counts = model.module.modality(modality).expression_likelihood in ("nb", "poisson")

    def measured(rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Log fold change of each context against the control among some rows; shape ``(n_contexts, n_genes)``."""
        groups = [rows[np.isin(labels[rows], group)] for group in (of_control, *([name] for name in names))]
        levels = np.stack([_level(model, mdata, modality, group, is_counts) for group in groups])
        return levels[1:] - levels[0]

    rng = np.random.default_rng(seed)
    reconstructed = np.sort(rng.choice(controls, size=min(n_cells, len(controls)), replace=False))

    def predicted(context: str | list[str]) -> NDArray[np.float64]:
        prediction, mask = model.get_reconstruction(
            mdata, modality=modality, indices=reconstructed.tolist(), companions={images: context}, seed=seed
        )
        n_hidden = mask.sum(axis=0)
        if not n_hidden.all():
            raise ValueError(
                f"{int((n_hidden == 0).sum())} of {len(genes)} genes are hidden in none of {len(reconstructed)} cells "
                f"of {control!r}, so that they are not predicted. Pass a larger n_cells, or indices with more cells."
            )
        if is_counts:
            prediction = np.log(prediction / prediction.sum(axis=1, keepdims=True))
        return np.where(mask, prediction, 0).sum(axis=0) / n_hidden

    observed = measured(held_out)
    is_measured = np.isin(of_control, labels[others]).any()
    assay = measured(others) if is_measured else np.full_like(observed, np.nan)
    result = AnnData(
        X=np.stack([predicted(name) for name in names]) - predicted(of_control),
        obs=pd.DataFrame({"n_cells": [int((labels[held_out] == name).sum()) for name in names]}, index=names),
        var=pd.DataFrame(index=genes),
        layers={
            "observed": observed,
            "baseline": (observed.sum(axis=0) - observed) / (len(names) - 1),
            "assay": assay,
        },
    )
    _score(result)
    parameters: dict[str, Any] = {
        "control": one_or_several(of_control),
        "n_cells": len(reconstructed),
        "min_cells": min_cells,
    }
    parameters |= {"modality": modality, "source": images, "seed": seed}
    write_result(result, "impute_expression", {"summary": _summary(result)}, parameters)
    return result


def _contexts_to_score(
    labels: NDArray[Any], imaged: set[str], wanted: Labels | None, control: Sequence[str], min_cells: int
) -> list[str]:
    """Contexts with images and enough held-out cells; those asked for must have both."""
    counts = pd.Series(labels).value_counts()
    if wanted is None:
        every = sorted(set(counts.index) - set(control))
        names = [name for name in every if counts[name] >= min_cells and name in imaged]
        if len(names) < len(every):
            warn(
                f"{len(every) - len(names)} of {len(every)} contexts have fewer than min_cells={min_cells} held-out "
                "transcriptomes, or no images; they are left out"
            )
    else:
        names = label_list(wanted, "contexts")
        bad = [name for name in names if counts.get(name, 0) < min_cells or name not in imaged or name in control]
        if bad:
            raise ValueError(
                f"contexts {bad[:20]} have fewer than min_cells={min_cells} held-out transcriptomes, no images, or are "
                "the control. Leave them out, or pass a smaller min_cells or indices with more cells."
            )
    if len(names) < MIN_CONTEXTS:
        raise ValueError(
            f"{len(names)} contexts are left to predict; comparing them needs {MIN_CONTEXTS} or more. Pass a smaller "
            f"min_cells than {min_cells}, or indices with more cells."
        )
    return names


def _level(
    model: TrainedModel, mdata: MuData | None, modality: str, rows: NDArray[np.integer], is_counts: bool
) -> NDArray[np.float64]:
    """Log share of each gene among all counts, or the mean level; NaN without cells."""
    if len(rows) == 0:
        return np.full(len(model.get_var_names()[modality]), np.nan)
    parts = np.split(rows, range(CHUNK_CELLS, len(rows), CHUNK_CELLS))
    total = np.zeros(len(model.get_var_names()[modality]))
    n_measured = np.zeros(len(total))
    for part in parts:
        values = model.get_measurement(mdata, modality=modality, indices=part.tolist())
        total += np.nansum(values, axis=0, dtype=np.float64)
        n_measured += (~np.isnan(values)).sum(axis=0)
    if is_counts:  # shares of the genes that were measured
        total = np.where(n_measured > 0, total + 0.5, np.nan)
        return np.log(total / np.nansum(total))
    return np.divide(total, n_measured, out=np.full_like(total, np.nan), where=n_measured > 0)


def _score(result: AnnData) -> None:
    """Correlations and errors over genes into ``obs``, over contexts into ``var``."""
    observed = result.layers["observed"]
    values = {"predicted": result.X, "baseline": result.layers["baseline"], "assay": result.layers["assay"]}
    is_measured = ~np.isnan(observed).any(axis=0)  # data that was fitted to the model may lack genes
    for axis, table in ((1, result.obs), (0, result.var)):
        for name in PREDICTORS:
            seen, found = observed, values[name]
            if axis == 1 and not is_measured.all():
                seen, found = seen[:, is_measured], found[:, is_measured]
            if axis == 1 or name != "baseline":
                table[f"correlation_{name}"] = _correlation(seen, found, axis)
            table[f"mse_{name}"] = np.square(seen - found).mean(axis=axis)
    for name in ("predicted", "assay"):
        with np.errstate(divide="ignore", invalid="ignore"):
            result.var[f"r2_{name}"] = 1 - result.var[f"mse_{name}"] / result.var["mse_baseline"]


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Pearson correlation along an axis; NaN where one does not vary."""
    x, y = (values - values.mean(axis=axis, keepdims=True) for values in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (x * y).sum(axis=axis) / np.sqrt(np.square(x).sum(axis=axis) * np.square(y).sum(axis=axis))


def _summary(result: AnnData) -> pd.DataFrame:
    """One row per predictor: means over contexts and over genes; NaN where a score is not defined."""

    def mean(table: pd.DataFrame, column: str) -> float:
        return float(table[column].mean()) if column in table else np.nan

    def median(column: str) -> float:
        known = result.var[column].dropna()
        return float(known.median()) if len(known) else np.nan

    return pd.DataFrame(
        {
            "predictor": PREDICTORS,
            "correlation_over_genes": [mean(result.obs, f"correlation_{name}") for name in PREDICTORS],
            "correlation_over_contexts": [mean(result.var, f"correlation_{name}") for name in PREDICTORS],
            "mse": [mean(result.obs, f"mse_{name}") for name in PREDICTORS],
            "median_r2": [median("r2_predicted"), 0.0, median("r2_assay")],
        }
    )
