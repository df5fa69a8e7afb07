"""PETRI as a scvi-tools model."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import mudata
import numpy as np
import scvi
import torch
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck
from scvi.model.base import BaseModelClass
from scvi.train import TrainRunner

from petri_scvi._checks import check_integers, check_is_mudata, check_modality, check_obs_names
from petri_scvi._compat import (
    FIELD_REGISTRIES_KEY,
    MODEL_NAME_KEY,
    SAVE_KEYS,
    STATE_REGISTRY_KEY,
    get_max_epochs_heuristic,
)
from petri_scvi._constants import CONTEXT_KEY, COUNTS_LAYER, IMAGE, IMAGES_KEY, RNA
from petri_scvi._cross_modal import gain_of_context, summarise_gain
from petri_scvi._documents import encode_cells, fuse_cells, random_mask
from petri_scvi._fields import ContextField, ExpressionField, ImagesField
from petri_scvi._networks import build_module
from petri_scvi._training_plan import PETRITrainingPlan
from petri_scvi.dataloaders import (
    ChannelReader,
    DocumentDataModule,
    arrange_documents,
    open_rows,
    rows_by_context,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from lightning.pytorch import LightningDataModule
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.dataloaders import RowReader

N_CELLS_FOR_STATISTICS = 10_000
"""Training cells of each modality from which normalisation statistics are estimated."""


class Reconstruction(NamedTuple):
    """What the decoders predict for cells whose tokens were masked."""

    prediction: NDArray[np.float32]
    """Images ``(n, C, H, W)`` in intensity units, or expected expression ``(n, n_genes)``."""
    mask: NDArray[np.bool_]
    """True where a patch ``(n, n_patches)`` or a gene ``(n, n_genes)`` was masked."""


class PETRI(BaseModelClass):
    """Cell embeddings from unpaired imaging and transcriptomics screens :cite:p:`PETRI2026`.

    Cells that share a context form a document. Each encoder sees a part of each cell, a set transformer lets the cells
    of a document inform each other, and decoders rebuild what was masked. The embedding is taken before the set
    transformer, so it depends on the cell alone.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    registry
        Saved registry, to build the model without data; :meth:`load` passes it.
    n_latent_tokens
        Latent tokens per cell (L); 8 in the paper.
    embed_dim
        Width of the tokens (D), a multiple of ``n_heads`` and of 4; ours.
    n_heads
        Attention heads of every block; ours.
    patch_size
        Side of an image patch in pixels; divides height and width of the crops; ours.
    mask_ratio
        Fraction of patches or genes masked in training; 0.75 in the paper.
    image_encoder_depth, image_decoder_depth
        Self-attention blocks of the image encoder and decoder; ours.
    image_decoder_dim
        Width of the image decoder's tokens; ours.
    image_flip
        Whether training images are randomly flipped and, if square, rotated by multiples of 90 degrees.
    image_intensity_jitter
        Standard deviation of the log of a random intensity factor per cell and channel, in training; 0 switches it off.
    expression_encoder_depth
        Pairs of cross-attention and self-attention blocks of the expression encoder; ours.
    expression_decoder_dim
        Hidden width of the expression decoder; ours.
    expression_likelihood
        ``"nb"``, negative binomial, for counts; ``"normal"``, squared error, for log-normalised values.
    set_transformer_depth
        Self-attention blocks of the set transformer; 0 keeps cells to themselves; ours.

    Raises
    ------
    ValueError
        An argument is out of range or does not fit the data, or ``"nb"`` is asked of values that are not counts.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.synthetic_screen()
    >>> petri_scvi.PETRI.setup_mudata(mdata)
    >>> model = petri_scvi.PETRI(mdata)
    >>> model.train()
    >>> mdata.obsm["X_petri"] = model.get_latent_representation()
    """

    def __init__(
        self,
        mdata: MuData | None = None,
        registry: dict | None = None,
        *,
        n_latent_tokens: int = 8,
        embed_dim: int = 256,
        n_heads: int = 8,
        patch_size: int = 8,
        mask_ratio: float = 0.75,
        image_encoder_depth: int = 6,
        image_decoder_depth: int = 2,
        image_decoder_dim: int = 128,
        image_flip: bool = False,
        image_intensity_jitter: float = 0.0,
        expression_encoder_depth: int = 4,
        expression_decoder_dim: int = 512,
        expression_likelihood: Literal["nb", "normal"] = "nb",
        set_transformer_depth: int = 4,
    ) -> None:
        super().__init__(mdata, registry)
        self.module = build_module(
            self._modality_states(),
            n_latent_tokens=n_latent_tokens,
            embed_dim=embed_dim,
            n_heads=n_heads,
            patch_size=patch_size,
            mask_ratio=mask_ratio,
            image_encoder_depth=image_encoder_depth,
            image_decoder_depth=image_decoder_depth,
            image_decoder_dim=image_decoder_dim,
            is_flipped=image_flip,
            intensity_jitter=image_intensity_jitter,
            expression_encoder_depth=expression_encoder_depth,
            expression_decoder_dim=expression_decoder_dim,
            expression_likelihood=expression_likelihood,
            set_transformer_depth=set_transformer_depth,
        )
        self.n_cells_per_context_ = 8
        self._likelihood = expression_likelihood
        self._model_summary_string = (
            f"PETRI with modalities {list(self.module.modalities)}, n_latent_tokens: {n_latent_tokens}, "
            f"embed_dim: {embed_dim}, mask_ratio: {mask_ratio}, set_transformer_depth: {set_transformer_depth}"
        )
        self.init_params_ = self._get_init_params(locals())
        if mdata is not None:
            self._check_likelihood(self.adata_manager)

    # Setup

    @classmethod
    def setup_anndata(cls, adata: Any, **kwargs: Any) -> None:
        """Not available: PETRI reads several modalities; see :meth:`setup_mudata`."""
        raise NotImplementedError(
            "PETRI reads a MuData. Put the modalities together and register them: "
            "mdata = petri_scvi.pp.build_mudata(image=..., rna=...); PETRI.setup_mudata(mdata)."
        )

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        context_key: str | Sequence[str] = CONTEXT_KEY,
        images_key: str = IMAGES_KEY,
        image_channels: Sequence[str | int] | None = None,
        rna_layer: str | None = None,
        modalities: Mapping[str, str | None] | None = None,
        is_paired: bool = False,
        **kwargs: Any,
    ) -> None:
        """Tell PETRI where images, expression and contexts are.

        Every value is checked once, in chunks. Nothing is copied; the code of each cell's context is written to
        ``obs["_scvi_petri_context"]`` of each modality.

        Parameters
        ----------
        mdata
            MuData with one or both modalities.
        context_key
            ``obs`` column of each modality, or several that together define a context.
        images_key
            ``obsm`` slot of the crops, shape ``(n, C, H, W)``: numpy, ``numpy.memmap``, h5py, zarr or dask.
        image_channels
            Names or positions of the channels to use, in this order; all if ``None``. scPortrait's arrays hold mask
            channels first: leave these out.
        rna_layer
            Layer with the expression; if ``None``, ``"counts"`` if there is such a layer, else ``X``.
        modalities
            Which modality ``images_key`` and ``rna_layer`` refer to; ``"image"`` and ``"rna"`` by default. ``None``
            goes without: ``{"rna_layer": None}`` trains on images alone.
        is_paired
            Whether cells of one name in both modalities are the same cell.
        kwargs
            For scvi-tools: ``source_registry``, when a saved setup is transferred.

        Raises
        ------
        KeyError
            A modality, slot, layer or column is missing.
        ValueError
            Something is there but cannot be used; the message says what and how to mend it.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        check_is_mudata(mdata)
        source_registry = kwargs.get("source_registry")
        chosen = _choose_modalities(mdata, modalities, is_transfer=source_registry is not None)
        context_columns = [context_key] if isinstance(context_key, str) else list(context_key)
        if not context_columns:
            raise ValueError("context_key is empty; name at least one obs column, for example 'perturbation'.")
        present = [modality for modality in chosen.values() if modality in mdata.mod]
        if not is_paired:
            check_obs_names(mdata, present)
        fields: list[Any] = []
        if "images_key" in chosen:
            fields.append(ImagesField(chosen["images_key"], images_key, image_channels))
        if "rna_layer" in chosen:
            fields.append(ExpressionField(chosen["rna_layer"], _choose_layer(mdata, chosen["rna_layer"], rna_layer)))
        fields += [ContextField(modality, context_columns, list(chosen.values())) for modality in chosen.values()]
        manager = AnnDataManager(
            fields=fields,
            setup_method_args=setup_method_args,
            # Images and transcriptomes of different cells are the point; by default scvi-tools refuses them.
            validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
        )
        manager.register_fields(mdata, **kwargs)
        if source_registry is None:
            _check_contexts({modality: _context_codes(manager, modality) for modality in present}, context_columns)
        cls.register_manager(manager)

    # Training

    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float = 0.9,
        validation_size: float | None = None,
        n_contexts_per_minibatch: int = 8,
        n_cells_per_context: int = 8,
        early_stopping: bool = False,
        datasplitter_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        datamodule: LightningDataModule | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        Parameters
        ----------
        max_epochs
            Passes over the cells: an epoch draws as many cells as the larger modality has. By default scvi-tools'
            heuristic, ``min(400, 400 * 20000 / n_cells)``.
        accelerator, devices
            Where to train, as in Lightning.
        train_size, validation_size
            Fractions of the cells of each context; all that do not train validate if ``validation_size`` is ``None``.
        n_contexts_per_minibatch
            Documents per minibatch (G).
        n_cells_per_context
            Cells per document and modality (S), drawn with replacement.
        early_stopping
            Whether to stop when ``validation_loss`` no longer improves. Not with DDP, where scvi-tools disables it.
        datasplitter_kwargs
            More arguments of :class:`petri_scvi.dataloaders.DocumentDataModule`, such as ``seed``.
        plan_kwargs
            Arguments of the training plan: ``lr``, ``weight_decay``, ``n_warmup_steps``, ``lr_schedule``,
            ``loss_weights`` and so on.
        datamodule
            Data to train on instead of the registered MuData. Its minibatches are like those of
            :class:`petri_scvi.dataloaders.DocumentDataset`.
        trainer_kwargs
            Arguments of :class:`scvi.train.Trainer`, such as ``precision``, ``logger``, ``callbacks``,
            ``enable_checkpointing`` or ``ckpt_path``. ``gradient_clip_val`` is 1 unless given.

        Raises
        ------
        ValueError
            Early stopping without validation cells, or a model without data.
        TypeError
            An argument that neither this method nor the trainer knows.
        """
        if "batch_size" in trainer_kwargs:
            raise TypeError(
                "batch_size is not an argument of PETRI.train: a minibatch is n_contexts_per_minibatch documents of "
                "n_cells_per_context cells per modality. Pass these two."
            )
        if datamodule is None:
            self._require_data()
            readers, codes = self._readers(self.adata_manager), self._codes(self.adata_manager)
            seed = scvi.settings.seed if scvi.settings.seed is not None else 0
            datamodule = DocumentDataModule(
                readers,
                codes,
                **{
                    "train_size": train_size,
                    "validation_size": validation_size,
                    "n_contexts_per_minibatch": n_contexts_per_minibatch,
                    "n_cells_per_context": n_cells_per_context,
                    "seed": seed,
                    **(datasplitter_kwargs or {}),
                },
            )
            if early_stopping and datamodule.n_val == 0:
                raise ValueError(
                    "early_stopping=True, but no cell is held out for validation; pass train_size=0.9, or "
                    "early_stopping=False."
                )
            if max_epochs is None:
                max_epochs = get_max_epochs_heuristic(max(map(len, readers.values())))
        if max_epochs is None:
            raise ValueError("max_epochs is needed with datamodule=..., whose number of cells is not known.")
        self.n_cells_per_context_ = n_cells_per_context
        if not self.is_trained_:
            self._fit_statistics(datamodule)
        runner = TrainRunner(
            self,
            training_plan=PETRITrainingPlan(self.module, **(plan_kwargs or {})),
            data_splitter=datamodule,
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            **{
                "early_stopping": early_stopping,
                "early_stopping_monitor": "validation_loss",
                "check_val_every_n_epoch": 1,
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 1,  # losses are logged per epoch; a larger value only warns about short epochs
                # Our sampler knows its rank; Lightning's would deal every rank a part of rank 0's rows.
                "use_distributed_sampler": False,
                **trainer_kwargs,
            },
        )
        runner()

    def _fit_statistics(self, datamodule: LightningDataModule) -> None:
        """Estimate normalisation statistics from training cells, before the first step."""
        if isinstance(datamodule, DocumentDataModule):
            rng = np.random.default_rng([datamodule.seed, 2])
            for name, rows in datamodule.train_idx.items():
                some = np.sort(rng.permutation(rows)[:N_CELLS_FOR_STATISTICS])
                chunks = datamodule.readers[name].chunks(some)
                self.module.modalities[name].fit_statistics(torch.from_numpy(chunk) for chunk in chunks)
            return
        minibatches = [minibatch for _, minibatch in zip(range(32), datamodule.train_dataloader(), strict=False)]
        for name, modality in self.module.modalities.items():
            cells = [minibatch["cells"][name] for minibatch in minibatches if name in minibatch["cells"]]
            if cells:
                modality.fit_statistics(cells)

    # Use

    @torch.inference_mode()
    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        pool: Literal["mean", "concat"] | None = "mean",
        position: Literal["encoder", "set_transformer"] = "encoder",
        seed: int = 0,
    ) -> NDArray[np.float32]:
        """Embed cells.

        Parameters
        ----------
        mdata
            Data to embed; that of the model if ``None``. It may have one of the modalities only, and new contexts.
        modality
            Embed the cells of this modality; by default those of all, aligned with ``mdata.obs``.
        indices
            Rows of ``mdata[modality]``, or of ``mdata``, to embed, in this order; all if ``None``.
        batch_size
            Cells per pass; ``scvi.settings.batch_size`` if ``None``.
        pool
            How the L latent tokens of a cell become one vector: ``"mean"`` of them, or ``"concat"``; ``None`` keeps
            them apart.
        position
            ``"encoder"``: before the set transformer, where a cell's embedding depends on that cell alone; this is the
            embedding of the paper. ``"set_transformer"``: after it, in documents of the cell's context.
        seed
            Seed of these documents.

        Returns
        -------
        Embedding, shape ``(n, D)`` for ``"mean"``, ``(n, L * D)`` for ``"concat"`` and ``(n, L, D)`` for ``None``.

        Raises
        ------
        ValueError
            A cell was measured in several modalities, or in none that the model knows, so that its row is ambiguous:
            pass ``modality``.
        """
        self._check_if_trained(warn=True)
        if pool not in ("mean", "concat", None):
            raise ValueError(f"pool={pool!r}; expected 'mean', 'concat' or None.")
        if position not in ("encoder", "set_transformer"):
            raise ValueError(f"position={position!r}; expected 'encoder' or 'set_transformer'.")
        manager = self._manager_of(mdata)
        embed = {"batch_size": batch_size or scvi.settings.batch_size, "pool": pool, "position": position, "seed": seed}
        if modality is not None:
            n_cells = len(self._require_modality(manager, modality))
            return self._embed(manager, modality, _rows(indices, n_cells), **embed)
        chosen = _rows(indices, manager.adata.n_obs)
        embedding = None
        for name, row_of in _rows_of_modalities(manager.adata, list(self._readers(manager)), chosen).items():
            places = np.flatnonzero(row_of >= 0)
            part = self._embed(manager, name, row_of[places], **embed)
            if embedding is None:
                embedding = np.empty((len(chosen), *part.shape[1:]), dtype=part.dtype)
            embedding[places] = part
        return embedding

    def _embed(
        self,
        manager: AnnDataManager,
        modality: str,
        rows: NDArray[np.integer],
        *,
        batch_size: int,
        pool: str | None,
        position: str,
        seed: int,
    ) -> NDArray[np.float32]:
        """Embed rows of one modality into one preallocated array."""
        n_latent_tokens, embed_dim = self.module.latent_shape
        shape = {"mean": (embed_dim,), "concat": (n_latent_tokens * embed_dim,), None: (n_latent_tokens, embed_dim)}
        embedding = np.empty((len(rows), *shape[pool]), dtype=np.float32)
        readers = self._readers(manager)
        if position == "encoder":
            start = 0
            for latents in encode_cells(self.module, modality, readers[modality], rows, batch_size=batch_size):
                embedding[start : start + len(latents)] = _pool(latents, pool)
                start += len(latents)
            return embedding
        for placed, latents in self._fuse(manager, modality, rows, mask=None, n_cells=None, seed=seed):
            embedding[placed] = _pool(latents, pool)
        return embedding

    @torch.inference_mode()
    def get_reconstruction(
        self,
        mdata: MuData | None = None,
        *,
        modality: str,
        indices: Sequence[int] | None = None,
        mask: NDArray[np.bool_] | None = None,
        n_cells_per_context: int | None = None,
        seed: int = 0,
    ) -> Reconstruction:
        """Rebuild cells from what is visible of them and of companions of the same context.

        Parameters
        ----------
        mdata
            Data; that of the model if ``None``.
        modality
            Modality to rebuild.
        indices
            Rows of ``mdata[modality]``; all if ``None``.
        mask
            True where a patch ``(n, n_patches)`` or gene ``(n, n_genes)`` is hidden; random, with the model's
            ``mask_ratio``, if ``None``. Patches count row by row.
        n_cells_per_context
            Cells of each modality in a document (S); as in training if ``None``.
        seed
            Seed of random masks and companions.

        Returns
        -------
        ``prediction`` for all patches or genes, visible ones included, and the ``mask`` used.

        Raises
        ------
        ValueError
            The mask does not fit, or hides every token of a cell.
        """
        self._check_if_trained(warn=True)
        manager = self._manager_of(mdata)
        reader = self._require_modality(manager, modality)
        rows = _rows(indices, len(reader))
        network = self.module.modalities[modality]
        if mask is None:
            mask = random_mask(len(rows), network.n_tokens, self.module.mask_ratio, seed)
        else:
            mask = _check_mask(mask, (len(rows), network.n_tokens))
        prediction = np.empty((len(rows), *reader.shape[1:]), dtype=np.float32)
        for placed, latents in self._fuse(manager, modality, rows, mask=mask, n_cells=n_cells_per_context, seed=seed):
            inputs = network.prepare(torch.from_numpy(reader.read(rows[placed])).to(self.module.device))
            prediction[placed] = network.to_measurement(network.decode(latents, inputs)).cpu().numpy()
        return Reconstruction(prediction, mask)

    def cross_modal_gain(
        self,
        mdata: MuData | None = None,
        *,
        indices: Mapping[str, Sequence[int]] | None = None,
        n_cells_per_context: int | None = None,
        n_documents: int = 4,
        seed: int = 0,
        is_summarised: bool = True,
    ) -> pd.DataFrame:
        """How much companions of a cell's own context help to rebuild it, against companions of another context.

        Each target cell is masked as in training and rebuilt twice, with the same mask: next to S cells of its own
        context, and next to S cells of another. With ``source`` the other modality the target has no companion of its
        own modality, so that only information that crosses modalities can tell the two apart. A model that learned
        nothing shared, such as one trained on permuted contexts, shows no gain.

        Parameters
        ----------
        mdata
            Data; that of the model if ``None``.
        indices
            Rows to rebuild, per modality. By default the validation cells of the model's own data, all cells of other
            data.
        n_cells_per_context
            Companions of each modality (S); as in training if ``None``.
        n_documents
            Documents of each kind that a cell is rebuilt in; its losses are averaged.
        seed
            Seed of masks, companions and other contexts.
        is_summarised
            Whether to return one row per pair of modalities, or the losses of every cell.

        Returns
        -------
        One row per ``modality`` of the target and ``source`` of the companions (a modality, or ``"all"``): ``n_cells``,
        ``loss_own``, ``loss_other``, ``gain`` (their difference) with its 95 % interval ``gain_low`` and ``gain_high``,
        ``relative_gain``, ``effect_size`` (Cohen's d of the paired differences), ``share_of_cells`` that gain, and
        ``p_value`` (two-sided Wilcoxon signed-rank test). Not summarised: ``modality``, ``source``, ``row``,
        ``loss_own`` and ``loss_other`` of each cell.

        Raises
        ------
        ValueError
            There are no validation cells, or fewer than two contexts to compare.
        """
        self._check_if_trained(warn=True)
        manager = self._manager_of(mdata)
        readers, codes = self._readers(manager), self._codes(manager)
        if indices is None:
            held_out = self.validation_indices if manager is self.adata_manager else None
            indices = held_out or {name: np.arange(len(reader)) for name, reader in readers.items()}
        targets = {name: _rows(indices[name], len(readers[name])) for name in readers if name in indices}
        targets = {name: rows for name, rows in targets.items() if len(rows)}
        if not targets:
            raise ValueError(
                "there are no cells to rebuild: no validation cells, or no indices. Pass "
                "indices={'image': ..., 'rna': ...}, or train with train_size=0.9."
            )
        self.module.eval()
        per_cell = gain_of_context(
            self.module,
            readers,
            codes,
            targets,
            {name: rows_by_context(codes[name]) for name in readers},
            n_cells_per_context=n_cells_per_context or self.n_cells_per_context_,
            n_documents=n_documents,
            seed=seed,
        )
        return summarise_gain(per_cell) if is_summarised else per_cell

    def _fuse(
        self,
        manager: AnnDataManager,
        modality: str,
        rows: NDArray[np.integer],
        *,
        mask: NDArray[np.bool_] | None,
        n_cells: int | None,
        seed: int,
    ) -> Any:
        """Fuse rows with companions of their context; masked companions if the rows are masked."""
        self.module.eval()
        readers, codes = self._readers(manager), self._codes(manager)
        companions = {name: rows_by_context(codes[name]) for name in readers}
        documents = arrange_documents(
            rows,
            codes[modality],
            modality,
            companions,
            n_cells or self.n_cells_per_context_,
            np.random.default_rng([seed, 0]),
        )
        return fuse_cells(
            self.module,
            readers,
            modality,
            rows,
            documents,
            target_mask=mask,
            companion_mask_ratio=None if mask is None else self.module.mask_ratio,
            seed=seed + 1,
        )

    # Saving

    def save(
        self,
        dir_path: str,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save the model; an interrupted save leaves what was there before.

        Parameters
        ----------
        dir_path
            Folder to save to.
        prefix
            Prepended to the names of the files.
        overwrite
            Whether the folder may exist.
        save_anndata
            Whether to save the MuData too.
        kwargs
            More arguments of :meth:`scvi.model.base.BaseModelClass.save`.

        Raises
        ------
        ValueError
            The folder exists and ``overwrite`` is ``False``.
        """
        folder = Path(dir_path)
        if folder.exists() and not overwrite:
            raise ValueError(f"{folder} already exists. Choose another folder, or pass overwrite=True.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as unfinished:
            super().save(unfinished, prefix=prefix, overwrite=True, save_anndata=save_anndata, **kwargs)
            folder.mkdir(exist_ok=True)
            # The weights last: a folder with a new model.pt has everything else that belongs to it.
            names = sorted(os.listdir(unfinished), key=lambda name: name.endswith(SAVE_KEYS.MODEL_FNAME))
            for name in names:
                os.replace(Path(unfinished, name), folder / name)

    @classmethod
    def load(cls, dir_path: str, adata: MuData | Literal[False] | None = None, **kwargs: Any) -> PETRI:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder the model was saved to.
        adata
            MuData to attach, set up as the one the model was trained on; it need not be registered. If ``None``, the
            MuData saved with the model if there is one. Without, the model embeds any MuData passed to its methods.
        kwargs
            ``prefix``, ``accelerator``, ``device`` and so on of :meth:`scvi.model.base.BaseModelClass.load`.

        Returns
        -------
        The model, ready to use.

        Raises
        ------
        ValueError
            The folder has no complete model, or one of another class, or the data does not fit it.
        """
        prefix = kwargs.get("prefix") or ""
        if not Path(dir_path, f"{prefix}{SAVE_KEYS.MODEL_FNAME}").exists() and not kwargs.get("backup_url"):
            raise ValueError(
                f"{dir_path} has no file {prefix}{SAVE_KEYS.MODEL_FNAME}. Pass the folder that model.save() was given."
            )
        try:
            model = super().load(dir_path, adata=False, **kwargs)
        except (EOFError, RuntimeError) as error:
            raise ValueError(
                f"{dir_path} does not hold a complete model ({error}). Save it again with model.save()."
            ) from error
        except ValueError as error:
            if "different class" not in str(error):
                raise
            saved = cls.load_registry(dir_path, prefix=prefix).get(MODEL_NAME_KEY)
            raise ValueError(
                f"{dir_path} holds a model of class {saved}, not {cls.__name__}. Load it with {saved}.load()."
            ) from error
        saved_mdata = Path(dir_path, f"{prefix}{SAVE_KEYS.MDATA_FNAME}")
        if adata is None and saved_mdata.exists():
            with mudata.set_options(pull_on_update=False):
                adata = mudata.read_h5mu(saved_mdata)
        if adata is not None and adata is not False:
            model._validate_anndata(adata)
        return model

    def get_var_names(self, legacy_mudata_format: bool = False) -> dict[str, NDArray[Any]] | NDArray[Any]:
        """Genes of the expression modality and channels of the imaging modality, as the model uses them."""
        names = {
            modality: np.asarray(state["channels"] if field == "images" else state["column_names"]).astype(str)
            for modality, (field, state) in self._modality_states().items()
        }
        return np.concatenate(list(names.values())) if legacy_mudata_format else names

    # What is registered

    def _modality_states(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Modality to its field, ``"images"`` or ``"X"``, and what that recorded."""
        registries = self.registry_[FIELD_REGISTRIES_KEY]
        return {
            registries[field]["data_registry"]["mod_key"]: (field, registries[field][STATE_REGISTRY_KEY])
            for field in ("images", "X")
            if field in registries
        }

    def _readers(self, manager: AnnDataManager) -> dict[str, RowReader]:
        """Readers of the modalities that the data has cells of."""
        readers = {}
        for modality, (field, _) in self._modality_states().items():
            if modality not in manager.adata.mod or manager.adata.mod[modality].n_obs == 0:
                continue
            reader = open_rows(manager.get_from_registry(field))
            if field == "images":
                positions = manager.get_state_registry("images")["positions"]
                if list(positions) != list(range(reader.shape[1])):
                    reader = ChannelReader(reader, positions)
            readers[modality] = reader
        return readers

    def _codes(self, manager: AnnDataManager) -> dict[str, NDArray[np.integer]]:
        """Context codes of the cells of each modality that the data has."""
        return {modality: _context_codes(manager, modality) for modality in self._readers(manager)}

    def _manager_of(self, mdata: MuData | None) -> AnnDataManager:
        if mdata is None:
            self._require_data()
        else:
            check_is_mudata(mdata)
        mdata = self._validate_anndata(mdata)
        manager = self.get_anndata_manager(mdata, required=True)
        if manager is not self.adata_manager:
            self._check_likelihood(manager)
        return manager

    def _require_data(self) -> None:
        if self.adata is None:
            raise ValueError("the model was loaded without data; pass a MuData, or PETRI.load(folder, mdata).")

    def _require_modality(self, manager: AnnDataManager, modality: str) -> RowReader:
        readers = self._readers(manager)
        if modality not in readers:
            raise ValueError(
                f"modality={modality!r}; the model knows {list(self.module.modalities)}, of which the data has "
                f"{list(readers)}."
            )
        return readers[modality]

    def _check_likelihood(self, manager: AnnDataManager) -> None:
        if self._likelihood != "nb":
            return
        for modality, (field, _) in self._modality_states().items():
            readers = self._readers(manager)
            if field == "X" and modality in readers:
                reader = readers[modality]
                check_integers(reader.chunks(np.arange(len(reader))), f"the expression of mdata[{modality!r}]")


def _choose_modalities(
    mdata: MuData, modalities: Mapping[str, str | None] | None, *, is_transfer: bool
) -> dict[str, str]:
    """Setup argument to the modality it refers to, without those to go without."""
    defaults = {"images_key": IMAGE, "rna_layer": RNA}
    unknown = set(modalities or {}) - set(defaults)
    if unknown:
        raise ValueError(
            f"modalities has {sorted(unknown)}; expected the setup arguments {sorted(defaults)}, for example "
            "modalities={'images_key': 'image', 'rna_layer': 'rna'}."
        )
    wanted = {**defaults, **(modalities or {})}
    if is_transfer:  # data that the model meets later may lack a modality
        chosen = {argument: name for argument, name in wanted.items() if name is not None}
        if not any(name in mdata.mod for name in chosen.values()):
            raise ValueError(f"mdata has the modalities {list(mdata.mod)}; the model knows {list(chosen.values())}.")
        return chosen
    chosen = {}
    unused = [name for name in mdata.mod if name not in wanted.values()]
    for argument, name in wanted.items():
        if name is None:
            continue
        # A MuData of one modality is meant to be that. One with other modalities more likely calls them by other names.
        if name in mdata.mod or argument in (modalities or {}) or unused or not set(wanted.values()) & set(mdata.mod):
            check_modality(mdata, name, argument)
            chosen[argument] = name
    if not chosen:
        raise ValueError("no modality is left; name at least one in modalities={'images_key': ..., 'rna_layer': ...}.")
    return chosen


def _choose_layer(mdata: MuData, modality: str, layer: str | None) -> str | None:
    """The layer asked for, else ``"counts"`` if there is one."""
    if layer is None and modality in mdata.mod and COUNTS_LAYER in mdata.mod[modality].layers:
        return COUNTS_LAYER
    return layer


def _context_codes(manager: AnnDataManager, modality: str) -> NDArray[np.integer]:
    return manager.get_from_registry(f"context_{modality}").reshape(-1)


def _check_contexts(codes: dict[str, NDArray[np.integer]], context_key: Sequence[str]) -> None:
    """Require contexts that gather cells, and that modalities share some."""
    for modality, codes_of_modality in codes.items():
        n_contexts = len(np.unique(codes_of_modality))
        if n_contexts == len(codes_of_modality) > 1:
            raise ValueError(
                f"every cell of mdata[{modality!r}] has a context of its own: obs[{list(context_key)}] takes "
                f"{n_contexts} values in {n_contexts} cells. Name a column that cells share, such as the perturbation."
            )
    if len(codes) < 2:
        return
    contexts = {modality: set(np.unique(c).tolist()) for modality, c in codes.items()}
    shared = set.intersection(*contexts.values())
    counts = ", ".join(f"{len(found)} in mdata[{modality!r}]" for modality, found in contexts.items())
    if not shared:
        raise ValueError(
            f"the modalities share no context: obs[{list(context_key)}] takes {counts}, none in common. "
            "Spell the perturbations alike in all modalities, or train on one modality with "
            "modalities={'rna_layer': None}."
        )
    n_single = len(set.union(*contexts.values())) - len(shared)
    if n_single:
        warnings.warn(
            f"{n_single} contexts were measured in one modality only ({counts}, {len(shared)} in common). Their cells "
            "train in documents of that modality alone.",
            UserWarning,
            stacklevel=3,
        )


def _rows(indices: Sequence[int] | None, n_cells: int) -> NDArray[np.integer]:
    """Positions of cells, from positions or a boolean mask."""
    if indices is None:
        return np.arange(n_cells)
    rows = np.asarray(indices)
    if rows.dtype == bool:
        if rows.shape != (n_cells,):
            raise ValueError(f"indices is a boolean mask of shape {rows.shape}; there are {n_cells} cells.")
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "ui"):
        raise ValueError(f"indices has shape {rows.shape} and dtype {rows.dtype}; expected a list of whole numbers.")
    rows = rows.astype(np.int64)
    if rows.size and not (-n_cells <= rows.min() and rows.max() < n_cells):
        raise ValueError(f"indices go from {rows.min()} to {rows.max()}; there are {n_cells} cells.")
    return np.where(rows < 0, rows + n_cells, rows)


def _rows_of_modalities(
    mdata: MuData, modalities: Sequence[str], chosen: NDArray[np.integer]
) -> dict[str, NDArray[np.integer]]:
    """Modality to the row of each chosen cell in it, -1 where the cell is not in the modality."""
    # obsmap holds 1-based rows, 0 where absent.
    row_of = {name: np.asarray(mdata.obsmap[name]).reshape(-1)[chosen].astype(np.int64) - 1 for name in modalities}
    n_modalities = sum((rows >= 0).astype(int) for rows in row_of.values())
    for n_found, problem in [(n_modalities > 1, "several of"), (n_modalities == 0, "none of")]:
        if np.any(n_found):
            raise ValueError(
                f"{int(np.sum(n_found))} cells of mdata were measured in {problem} {list(modalities)}, so that one "
                "embedding per row of mdata is not defined. Pass modality=... and put the result in "
                "mdata[modality].obsm."
            )
    return row_of


def _pool(latents: torch.Tensor, pool: str | None) -> NDArray[np.float32]:
    """Shapes ``(B, L, D)`` -> ``(B, D)``, ``(B, L * D)`` or ``(B, L, D)``."""
    if pool == "mean":
        latents = latents.mean(dim=1)
    elif pool == "concat":
        latents = latents.flatten(1)
    return latents.float().cpu().numpy()


def _check_mask(mask: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(
            f"mask has dtype {mask.dtype} and shape {mask.shape}; expected bool and {shape}: one row per cell, one "
            "column per patch or gene, True where hidden."
        )
    n_blind = int(mask.all(axis=1).sum())
    if n_blind:
        raise ValueError(f"mask hides every token of {n_blind} cells; leave at least one visible.")
    return mask
