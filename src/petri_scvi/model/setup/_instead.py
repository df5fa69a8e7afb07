"""Methods and setup arguments of scvi-tools' models that have another name here, or no meaning."""

from __future__ import annotations

import functools
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec

from scvi.model.base import BaseModelClass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scvi.data import AnnDataManager

P = ParamSpec("P")

NO_ELBO = "the model is not variational and has no ELBO. Use model.history, or model.get_reconstruction_error()."
NO_DISTRIBUTION = (
    "embeddings are points, not distributions. Use model.get_latent_representation(), and tl.guide_model for the "
    "uncertainty of a guide's effect."
)
EXPECTED = (
    "expected expression is reconstructed from what is visible of a cell and its companions: "
    "model.get_reconstruction(modality='rna', mask=...).prediction. petri_scvi.tl.impute_expression gives the "
    "expression of imaged cells."
)
COMPARE = (
    "compare imputed expression between contexts with petri_scvi.tl.impute_expression and "
    "petri_scvi.tl.targeted_reconstruction, or dimensions of the embedding with petri_scvi.tl.describe_dimensions."
)
ACCESSIBILITY = EXPECTED.replace("modality='rna'", "modality='atac'").replace(" of a cell", " of a cell's peaks", 1)
CORRELATE = (
    "the decoder draws no samples whose genes could be correlated. Correlate the fold changes that "
    "petri_scvi.tl.impute_expression returns, one row per context: numpy.corrcoef(profiles.X.T)."
)
WHERE = (
    "embeddings are points, not distributions. petri_scvi.tl.perturbation_strength says how far the cells of each "
    "perturbation lie from the controls, and petri_scvi.tl.mixing whether groups of cells lie apart."
)
NO_PROTEINS = (
    "counts of proteins are modelled without a background. model.get_reconstruction(modality='protein', "
    "mask=...).prediction is their expected value."
)
KEEP = (
    "save the embedding without the measurements, model.write_latent_representation('embedding.h5mu'), and the model, "
    "model.save('petri_model'). The functions of petri_scvi.tl read this file."
)
METHODS = {
    "get_normalized_expression": EXPECTED,
    "get_likelihood_parameters": EXPECTED,
    "posterior_predictive_sample": EXPECTED + " Samples are not drawn.",
    "get_feature_correlation_matrix": CORRELATE,
    "get_normalized_accessibility": ACCESSIBILITY,
    "get_accessibility_estimates": ACCESSIBILITY,
    "get_region_factors": "peaks have no factors of their own; " + ACCESSIBILITY,
    "get_protein_background_mean": NO_PROTEINS,
    "get_protein_foreground_probability": NO_PROTEINS,
    "differential_expression": COMPARE,
    "differential_accessibility": COMPARE,
    "differential_abundance": WHERE,
    "get_elbo": NO_ELBO,
    "get_marginal_ll": NO_ELBO,
    "get_aggregated_posterior": NO_DISTRIBUTION,
    "get_importance_weights": NO_DISTRIBUTION,
    "get_batch_representation": "batches have no embedding; the networks do not read them.",
    "get_latent_library_size": "the library size is the number of counts of the cell: mdata['rna'].X.sum(axis=1).",
    "get_library_size_factors": "the library size is the number of counts of the cell: mdata['rna'].X.sum(axis=1).",
    "minify_adata": KEEP,
    "minify_mudata": KEEP,
    "mdata": "the MuData that was set up is model.adata, as in other models of scvi-tools.",
    "prepare_query_anndata": "new data is a MuData: PETRI.prepare_query_mudata(mdata, model).",
    "setup_annbatch": "cells are read from disk without it: petri_scvi.io.open_screen('screen.h5mu').",
}
"""What takes the place of a method of scvi-tools."""

NO_BATCH = (
    "the networks read neither batches nor covariates. Correct the embedding: "
    "petri_scvi.tl.center_scale(mdata, 'X_petri', replicate_key=...) centers each batch on its controls. "
    "baselines.SCVI(mdata, batch_key=...) models batches of transcriptomes."
)
ANOTHER = (
    "name the modality and what it measures: modalities={'image': 'images', 'rna': 'counts', 'protein': 'counts'}, or "
    "petri_scvi.modalities.Kind('counts', layer=...) for a layer."
)
NO_MODALITY = "the model has nothing of this kind. Leave it out."
SETUP = {
    "batch_key": NO_BATCH,
    "categorical_covariate_keys": NO_BATCH,
    "continuous_covariate_keys": NO_BATCH,
    "labels_key": "cells that share a perturbation are named by context_key='perturbation'.",
    "layer": "pass rna_layer='counts', or another layer of the transcriptomes.",
    "size_factor_key": "the decoder uses the number of counts of each cell. Leave it out.",
    "atac_layer": ANOTHER.replace("'protein': 'counts'", "'atac': 'peaks'").replace("Kind('counts'", "Kind('peaks'"),
    "protein_layer": ANOTHER,
    "panel_key": NO_MODALITY,
    "idx_layer": NO_MODALITY,
}
"""What takes the place of an argument of scvi-tools' ``setup_mudata``."""
WIDTH = "all layers have the width embed_dim. Pass embed_dim=..."
POINTS = "embeddings are points, not distributions. Leave it out."
INIT = {
    "adata": "pass the MuData that was set up, PETRI(mdata).",
    "n_latent": "the embedding is the mean of n_latent_tokens tokens of width embed_dim. Pass embed_dim=...",
    "n_hidden": WIDTH,
    "n_layers": "pass image_encoder_depth, expression_encoder_depth and set_transformer_depth.",
    "dropout_rate": "tokens are masked instead. Pass mask_ratio=...",
    "gene_likelihood": "pass expression_likelihood='nb', for counts, or 'normal'.",
    "dispersion": "each gene has one dispersion. Leave it out.",
    "latent_distribution": POINTS,
    "use_observed_lib_size": "the decoder uses the number of counts of each cell. Leave it out.",
}
"""What takes the place of an argument with which scvi-tools' models are made."""
TRANSFER = ("source_registry", "extend_categories", "allow_missing_labels", "transfer_batch")
"""Arguments with which scvi-tools transfers a setup to other data."""


def advises(init: Callable[P, None]) -> Callable[P, None]:
    """Refuse arguments of other models' ``__init__`` with what takes their place; the signature stays the same."""
    parameters = signature(init)

    @functools.wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        model = type(args[0]).__name__
        for name in kwargs:
            if name not in parameters.parameters:
                advice = INIT.get(name, f"help({model}) lists them all.")
                raise TypeError(f"{name} is not an argument of {model}: {advice}")
        init(*args, **kwargs)

    return checked


class AdviceMixin(BaseModelClass):
    """Answers what users of other models of scvi-tools ask for with the call that does it here."""

    def __getattr__(self, name: str) -> Any:
        """Name what takes the place of a method that the model does not have."""
        model = type(self).__name__
        advice = f": {METHODS[name]}" if name in METHODS else "."
        raise AttributeError(f"{model} has no {name}{advice}", name=name, obj=self)

    def get_normalized_expression(self, *args: Any, **kwargs: Any) -> Any:
        """Not available: see ``get_reconstruction`` and :func:`petri_scvi.tl.impute_expression`."""
        raise NotImplementedError(f"{type(self).__name__} has no get_normalized_expression: {EXPECTED}")

    def differential_abundance(self, *args: Any, **kwargs: Any) -> Any:
        """Not available: embeddings are points, not distributions."""
        raise NotImplementedError(f"{type(self).__name__} has no differential_abundance: {WHERE}")

    @classmethod
    def prepare_query_anndata(cls, *args: Any, **kwargs: Any) -> None:
        """Not available: new data is a MuData; see ``prepare_query_mudata``."""
        advice = METHODS["prepare_query_anndata"].replace("PETRI", cls.__name__)
        raise NotImplementedError(f"{cls.__name__} has no prepare_query_anndata: {advice}")

    @classmethod
    def setup_annbatch(cls, *args: Any, **kwargs: Any) -> None:
        """Not available: cells are read from disk without it."""
        raise NotImplementedError(f"{cls.__name__} has no setup_annbatch: {METHODS['setup_annbatch']}")

    @classmethod
    def _get_most_recent_anndata_manager(cls, adata: Any, required: bool = False) -> AnnDataManager | None:
        """Registration of data; the error of scvi-tools would name ``setup_anndata``."""
        manager = super()._get_most_recent_anndata_manager(adata, required=False)
        if manager is None and required:
            arguments = getattr(cls, "_setup_arguments", "mdata")
            raise ValueError(
                f"this MuData was not set up for {cls.__name__}. Call {cls.__name__}.setup_mudata({arguments}) first. "
                "A copy of a MuData is other data."
            )
        return manager


def check_setup_arguments(model: str, kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that only other models have.

    Parameters
    ----------
    model
        Name of the model's class.
    kwargs
        What ``setup_mudata`` was given besides its own arguments.

    Raises
    ------
    TypeError
        It is not an argument with which scvi-tools transfers a setup.
    """
    for name in kwargs:
        if name not in TRANSFER:
            advice = SETUP.get(name, f"help({model}.setup_mudata) lists them all.")
            raise TypeError(f"{name} is not an argument of {model}.setup_mudata: {advice}")
