"""Unimodal masked autoencoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi._model import PETRI

if TYPE_CHECKING:
    from mudata import MuData


class MAE(PETRI):
    """Unimodal masked autoencoders: PETRI without documents :cite:p:`He2022,Jaegle2021`.

    A ViT masked autoencoder of images and a Perceiver masked autoencoder of transcriptomes, with PETRI's encoders,
    decoders, masks and losses. It is exactly :class:`petri_scvi.PETRI` with ``set_transformer_depth=0``: each cell is
    reconstructed from its own latent tokens, so that neither the other cells of its document nor the other modality
    contribute.

    With both modalities registered, two autoencoders are trained side by side. They share no parameter and no gradient;
    only gradient clipping involves both, and ``train(gradient_clip_val=0)`` switches it off. To train one of them,
    register it alone: ``MAE.setup_mudata(mdata, modalities={"rna_layer": None})``.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    registry
        Saved registry, to build the model without data; :meth:`load` passes it.
    petri_kwargs
        Arguments of :class:`petri_scvi.PETRI` except ``set_transformer_depth``.

    Raises
    ------
    TypeError
        ``set_transformer_depth`` is given.
    ValueError
        As in PETRI.

    Notes
    -----
    Cells are drawn as for PETRI, every context equally often, and the networks are as large as PETRI's by default, so
    that a comparison of the two shows the effect of documents.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.synthetic_screen()
    >>> petri_scvi.baselines.MAE.setup_mudata(mdata)
    >>> model = petri_scvi.baselines.MAE(mdata)
    >>> model.train()
    >>> mdata["image"].obsm["X_mae"] = model.get_latent_representation(modality="image")
    """

    _draws_groups = False

    _fixed_settings = ("set_transformer_depth",)

    def __init__(self, mdata: MuData | None = None, registry: dict | None = None, **petri_kwargs: Any) -> None:
        if "set_transformer_depth" in petri_kwargs:
            raise TypeError(
                "MAE has no set transformer; leave set_transformer_depth out, or use petri_scvi.PETRI, which has one."
            )
        super().__init__(mdata, registry, set_transformer_depth=0, **petri_kwargs)
        self.init_params_ = self._get_init_params(locals())
