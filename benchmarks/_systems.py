"""The systems of the paper's comparison: each takes a screen and returns embeddings of its cells."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scvi
from anndata import AnnData
from sklearn.decomposition import PCA

from petri_scvi import PETRI, baselines, pp
from petri_scvi._constants import CONTEXT_KEY, IMAGE, RNA
from petri_scvi.modalities import EncoderSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import NDArray

    Embeddings = dict[str, NDArray[Any]]  # modality to (n_cells, D)
    System = Callable[["Job"], Iterator["Row"]]

PERMUTED_KEY = "permuted_context"
PETRI_FOLDER = "petri_model"
ONLY = {IMAGE: {"images_key": IMAGE, "rna_layer": None}, RNA: {"images_key": None, "rna_layer": RNA}}


class NotRunnableError(Exception):
    """What the user has to bring for a system to run."""


@dataclass(frozen=True)
class Row:
    """One row of the table: an embedding of each modality, and whether modalities share its dimensions.

    ``held_out`` are the contexts of which no cell was used in training, if there are some.
    """

    name: str
    embeddings: Embeddings
    is_shared: bool
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One screen, and what every learned system may spend on it."""

    mdata: MuData
    seed: int
    n_steps: int
    network: dict[str, Any]
    checkpoints: dict[str, Path]  # of published models, by name
    finished: Path  # folder of the embeddings of systems that are done
    plan_kwargs: dict[str, Any]
    trusts_code: bool = False  # of published models that bring their own

    @property
    def has_counts(self) -> bool:
        """Whether expression is counts, or log-normalised."""
        return self.network.get("expression_likelihood", "nb") == "nb"

    def fit(self, model: Any, *, n_cells: int = 8, n_contexts: int = 8, **changes: Any) -> None:
        """Train for the same number of cells whatever the documents; ``changes`` are of the plan."""
        scvi.settings.seed = self.seed
        model.train(
            max_epochs=self.n_steps,  # more than max_steps can fill, whatever the number of cells
            max_steps=self.n_steps,
            n_cells_per_context=n_cells,
            n_contexts_per_minibatch=n_contexts,
            enable_progress_bar=False,
            plan_kwargs={**self.plan_kwargs, **changes},
        )


def embed(model: Any, mdata: MuData, **kwargs: Any) -> Embeddings:
    return {
        name: model.get_latent_representation(mdata, modality=name, **kwargs)
        for name in (IMAGE, RNA)
        if name in model.module.modalities
    }


def make_petri(job: Job, *, context_key: str = CONTEXT_KEY, only: str | None = None, **changes: Any) -> PETRI:
    scvi.settings.seed = job.seed
    PETRI.setup_mudata(job.mdata, context_key=context_key, modalities=ONLY[only] if only else None)
    return PETRI(job.mdata, **{**job.network, **changes})


def petri(job: Job) -> Iterator[Row]:
    model = make_petri(job)
    job.fit(model)
    model.save(str(job.finished / PETRI_FOLDER), overwrite=True)
    yield Row("PETRI", embed(model, job.mdata), is_shared=True)


def petri_embeddings(job: Job) -> Iterator[Row]:
    """Other embeddings of the cells by the model of ``petri``."""
    if not (job.finished / "petri.csv").exists():
        raise NotRunnableError("it reads the model of petri; run that first")
    model = PETRI.load(str(job.finished / PETRI_FOLDER), adata=job.mdata)
    yield Row("PETRI, latents concatenated", embed(model, job.mdata, pool="concat"), is_shared=True)
    # Each cell is then fused with others of its own context: it knows its label, and its scores are no evidence.
    yield Row(
        "PETRI, after the set transformer (knows the label)",
        embed(model, job.mdata, position="set_transformer"),
        is_shared=True,
    )


def petri_published(job: Job) -> Iterator[Row]:
    """The encoders of the paper, with the learning rate that suited them."""
    model = make_petri(job, linear_path=False, gene_reads="tokens")
    job.fit(model, lr=1e-3)
    yield Row("PETRI, as published", embed(model, job.mdata), is_shared=True)


def petri_permuted(job: Job) -> Iterator[Row]:
    """Contexts shuffled among the cells of each modality: documents then mean nothing."""
    rng = np.random.default_rng(job.seed)
    for modality in job.mdata.mod.values():
        modality.obs[PERMUTED_KEY] = rng.permutation(modality.obs[CONTEXT_KEY].astype(str))
    model = make_petri(job, context_key=PERMUTED_KEY)
    job.fit(model)
    yield Row("PETRI, permuted contexts", embed(model, job.mdata), is_shared=True)


def petri_alone(job: Job) -> Iterator[Row]:
    """Documents of one modality."""
    embeddings: Embeddings = {}
    for name in (IMAGE, RNA):
        model = make_petri(job, only=name)
        job.fit(model)
        embeddings |= embed(model, job.mdata)
    yield Row("PETRI, each modality alone", embeddings, is_shared=False)


def mae(job: Job) -> Iterator[Row]:
    scvi.settings.seed = job.seed
    baselines.MAE.setup_mudata(job.mdata)
    network = {name: value for name, value in job.network.items() if name != "set_transformer_depth"}
    model = baselines.MAE(job.mdata, **network)
    job.fit(model)
    yield Row("ViT MAE and Perceiver MAE", embed(model, job.mdata), is_shared=False)


def cross_modal_autoencoder(job: Job) -> Iterator[Row]:
    """On the embeddings of the masked autoencoders."""
    if not (job.finished / "mae.npz").exists():
        raise NotRunnableError("it reads the embeddings of mae; run that first")
    with np.load(job.finished / "mae.npz") as found:
        screen = pp.build_mudata(
            **{
                name: AnnData(obs=job.mdata[name].obs[[CONTEXT_KEY]].copy(), obsm={"X_mae": found[f"0 {name}"]})
                for name in (IMAGE, RNA)
            }
        )
    scvi.settings.seed = job.seed
    baselines.CrossModalAutoencoder.setup_mudata(screen, embedding_keys={IMAGE: "X_mae", RNA: "X_mae"})
    model = baselines.CrossModalAutoencoder(screen)
    job.fit(model)
    yield Row("cross-modal autoencoder of the MAEs", embed(model, screen), is_shared=True)


def fit_contrastive(job: Job, name: str, n_contexts: int, n_cells: int) -> Any:
    """As many cells per step as PETRI, in documents that suit the system."""
    system = getattr(baselines, name)
    scvi.settings.seed = job.seed
    system.setup_mudata(job.mdata)
    names = {field.name for field in fields(EncoderSettings)}
    model = system(job.mdata, **{key: value for key, value in job.network.items() if key in names})
    job.fit(model, n_cells=n_cells, n_contexts=n_contexts)
    return model


def contrastive(job: Job, name: str, n_contexts: int, n_cells: int) -> Iterator[Row]:
    yield Row(name, embed(fit_contrastive(job, name, n_contexts, n_cells), job.mdata), is_shared=True)


def unimodal(job: Job, name: str, systems: dict[str, tuple[Any, dict[str, Any]]]) -> Iterator[Row]:
    """One baseline per modality, each with its arguments."""
    embeddings: Embeddings = {}
    for modality, (system, arguments) in systems.items():
        system.setup_mudata(job.mdata)
        scvi.settings.seed = job.seed
        model = system(job.mdata, **arguments)
        model.train()
        embeddings[modality] = model.get_latent_representation(modality=modality)
    yield Row(name, embeddings, is_shared=False)


def measured_features(job: Job) -> Iterator[Row]:
    """Slow to measure, so of a sample: its profiles are means over fewer cells than those of the others.

    There are as many features as cells; whitened as they are, all cells would be equally far apart.
    """
    systems: dict[str, tuple[Any, dict[str, Any]]] = {IMAGE: (baselines.ImageFeatures, {"max_cells_per_context": 20})}
    for row in unimodal(job, "measured image features, 50 components, 20 cells per context", systems):
        features = row.embeddings[IMAGE]
        is_measured = np.isfinite(features).all(axis=1)
        components = np.full((len(features), 50), np.nan, dtype=np.float32)
        components[is_measured] = PCA(50, random_state=0).fit_transform(features[is_measured])
        yield Row(row.name, {IMAGE: components}, is_shared=False)


def pca(job: Job) -> Iterator[Row]:
    of_expression = (baselines.PCAExpression, {"is_normalized": not job.has_counts})
    both: dict[str, tuple[Any, dict[str, Any]]] = {IMAGE: (baselines.PCAPixels, {}), RNA: of_expression}
    return unimodal(job, "PCA of pixels and of expression", both)


def pca_scaled(job: Job) -> Iterator[Row]:
    """Every gene brought to unit variance first, as in scanpy's tutorials."""
    arguments = {"is_normalized": not job.has_counts, "scale": True}
    return unimodal(job, "PCA of expression, genes scaled", {RNA: (baselines.PCAExpression, arguments)})


def random_projection(job: Job) -> Iterator[Row]:
    arguments = {"is_normalized": not job.has_counts, "seed": job.seed}
    return unimodal(job, "random projection of log counts", {RNA: (baselines.RandomProjection, arguments)})


def propensity(job: Job) -> Iterator[Row]:
    """On principal components; whitened as they are, probabilities that sum to 1 would be mostly noise."""
    if not (job.finished / "pca.npz").exists():
        raise NotRunnableError("it reads the components of pca; run that first")
    with np.load(job.finished / "pca.npz") as found:
        parts = {
            name: AnnData(obs=job.mdata[name].obs[[CONTEXT_KEY]].copy(), obsm={"X_pca": found[f"0 {name}"]})
            for name in (IMAGE, RNA)
        }
    screen = pp.build_mudata(**parts)
    baselines.PropensityScore.setup_mudata(screen, embedding_keys={IMAGE: "X_pca", RNA: "X_pca"})
    model = baselines.PropensityScore(screen, seed=job.seed)
    model.train()
    scores = embed_known(model, screen)
    axes = PCA(min(50, len(model.classes_) - 1), random_state=0).fit(np.concatenate([*scores.values()]))
    yield Row("propensity scores", {name: axes.transform(score) for name, score in scores.items()}, is_shared=True)


def embed_known(model: Any, mdata: MuData) -> Embeddings:
    """Registered cells, which no classifier has seen that scores them."""
    return {name: model.get_latent_representation(modality=name) for name in mdata.mod}


def scvi_of_counts(job: Job) -> Iterator[Row]:
    if not job.has_counts:
        raise NotRunnableError("it models counts, and the screen publishes log-normalised expression")
    return unimodal(job, "scVI", {RNA: (baselines.SCVI, {})})


def multivi(job: Job) -> Iterator[Row]:
    """A fifth of scvi-tools' epochs, which by default still are several times as many cells as others see."""
    if not job.has_counts:
        raise NotRunnableError("it models counts, and the screen publishes log-normalised expression")
    scvi.settings.seed = job.seed
    baselines.MULTIVI.setup_mudata(job.mdata)
    model = baselines.MULTIVI(job.mdata, seed=job.seed)
    model.train(max_epochs=100, enable_progress_bar=False)
    embeddings = {name: model.get_latent_representation(modality=name) for name in (IMAGE, RNA)}
    yield Row("MULTIVI", embeddings, is_shared=True)


def published(job: Job, name: str, system: Any, modality: str, **arguments: Any) -> Iterator[Row]:
    """A model whose weights were published."""
    if name not in job.checkpoints:
        raise NotRunnableError(f"no weights; pass --checkpoint {name}=FOLDER")
    try:
        arguments |= {"checkpoint": job.checkpoints[name]}
        yield from unimodal(job, name, {modality: (system, arguments)})
    except (FileNotFoundError, ValueError) as error:  # weights that are not there, or not of these genes or images
        raise NotRunnableError(str(error)) from error


def ablation(job: Job, name: str, *, n_cells: int = 8, n_contexts: int = 8, **changes: Any) -> Iterator[Row]:
    model = make_petri(job, **changes)
    job.fit(model, n_cells=n_cells, n_contexts=n_contexts)
    yield Row(name, embed(model, job.mdata), is_shared=True)


def without_modality_embedding(job: Job) -> Iterator[Row]:
    model = make_petri(job)
    for parameter in model.module.set_transformer.modality_embedding.parameters():
        parameter.requires_grad_(False).zero_()
    job.fit(model)
    yield Row("PETRI, no modality embedding", embed(model, job.mdata), is_shared=True)


def half_of_the_screen(job: Job) -> tuple[Job, tuple[str, ...]]:
    """The cells of every other perturbation, and the names of the perturbations left out."""
    names = job.mdata[RNA].obs[CONTEXT_KEY].cat.categories
    kept = {name: m[m.obs[CONTEXT_KEY].isin(names[::2]).to_numpy()].copy() for name, m in job.mdata.mod.items()}
    return replace(job, mdata=pp.build_mudata(**kept)), tuple(names[1::2])


def half_of_the_contexts(job: Job) -> Iterator[Row]:
    """Trained on the cells of every other perturbation; all are embedded."""
    half, held_out = half_of_the_screen(job)
    model = make_petri(half)
    job.fit(model)
    yield Row("PETRI, half of the contexts", embed(model, job.mdata), is_shared=True, held_out=held_out)


def clip_half_of_the_contexts(job: Job) -> Iterator[Row]:
    """The same of a contrastive model: does it align contexts that it was not trained to tell apart?"""
    half, held_out = half_of_the_screen(job)
    model = fit_contrastive(half, "CLIP", 64, 1)
    yield Row("CLIP, half of the contexts", embed(model, job.mdata), is_shared=True, held_out=held_out)


SYSTEMS: dict[str, System] = {
    "petri": petri,
    "mae": mae,
    "pca": pca,
    "pca_scaled": pca_scaled,
    "random_projection": random_projection,
    "propensity": propensity,
    "scvi": scvi_of_counts,
    "image_features": lambda job: measured_features(job),
    "dinov2": lambda job: published(job, "DINOv2", baselines.DINOv2, IMAGE),
    "openphenom": lambda job: published(
        job, "OpenPhenom", baselines.OpenPhenom, IMAGE, trust_remote_code=job.trusts_code
    ),
    # Screens of mouse cells have symbols in lower case; the vocabulary is human.
    "scgpt": lambda job: published(job, "scGPT", baselines.ScGPT, RNA, ignore_case=True),
    "cross_modal_autoencoder": cross_modal_autoencoder,
    "clip": lambda job: contrastive(job, "CLIP", 64, 1),
    "cell_clip": lambda job: contrastive(job, "CellCLIP", 8, 8),
    "group_clip": lambda job: contrastive(job, "GroupCLIP", 8, 8),
    "multivi": multivi,
    "petri_permuted": petri_permuted,
    "petri_alone": petri_alone,
    "petri_published": petri_published,
}
"""The paper's comparison, in the order in which it runs: later systems may read what earlier ones left."""

ABLATIONS: dict[str, System] = {
    "petri_embeddings": petri_embeddings,
    "mask_50": lambda job: ablation(job, "PETRI, 50 % masked", mask_ratio=0.5),
    "mask_90": lambda job: ablation(job, "PETRI, 90 % masked", mask_ratio=0.9),
    "latents_1": lambda job: ablation(job, "PETRI, L = 1", n_latent_tokens=1),
    "latents_16": lambda job: ablation(job, "PETRI, L = 16", n_latent_tokens=16),
    "cells_4": lambda job: ablation(job, "PETRI, 4 cells per document", n_cells=4, n_contexts=16),
    "cells_16": lambda job: ablation(job, "PETRI, 16 cells per document", n_cells=16, n_contexts=4),
    "no_modality_embedding": without_modality_embedding,
    "half_of_the_contexts": half_of_the_contexts,
    "clip_half_of_the_contexts": clip_half_of_the_contexts,
}
"""PETRI with one thing changed, and CLIP on the contexts that PETRI was trained on."""
