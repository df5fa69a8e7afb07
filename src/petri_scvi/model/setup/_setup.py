"""Register a MuData."""

from __future__ import annotations

import warnings
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, cast

from scvi.data import AnnDataManagerValidationCheck

from petri_scvi._checks import (
    check_is_mudata,
    check_modality_names,
    check_not_view,
    check_partners,
    check_unique_names,
    check_unshared_names,
    context_columns,
)
from petri_scvi._compat import SETUP_ARGS_KEY
from petri_scvi._constants import CONTEXT_KEY, IMAGES_KEY
from petri_scvi.common import check_is_current
from petri_scvi.common._labels import as_text, warn_missing_words
from petri_scvi.modalities import is_by_kind
from petri_scvi.model.setup._context_field import ContextField
from petri_scvi.model.setup._context_groups import ARGUMENT, find_groups
from petri_scvi.model.setup._instead import check_setup_arguments
from petri_scvi.model.setup._managers import DataManager
from petri_scvi.model.setup._places import default_fields, find_kinds, saved_fields, warn_unused
from petri_scvi.model.setup._registered import RegisteredData

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from petri_scvi._groups import Groups
    from petri_scvi.modalities import Kind, ModalityField


class RegistrationMixin(RegisteredData):
    """Registration of fields of any kind, and of the contexts of their cells."""

    _lonely_contexts = "Their cells train in documents of that modality alone."
    """What becomes of contexts that were measured in one modality only."""
    _setup_arguments = "mdata"
    """What ``setup_mudata`` must be given."""
    _draws_groups = False
    """Whether documents of the model may hold cells of several contexts."""

    @classmethod
    def setup_anndata(cls, adata: Any, **kwargs: Any) -> None:
        """Not available: several modalities are read; see :meth:`setup_mudata`."""
        raise NotImplementedError(
            f"{cls.__name__} reads a MuData. Put the modalities together and register them: "
            f"mdata = petri_scvi.pp.build_mudata(image=..., rna=...); {cls.__name__}.setup_mudata("
            f"{cls._setup_arguments})."
        )

    @classmethod
    def _register(
        cls,
        mdata: MuData,
        fields: list[ModalityField],
        context_key: list[str],
        is_paired: bool,
        setup_method_args: dict,
        **kwargs: Any,
    ) -> None:
        """Check and register the fields of modalities, and the contexts of their cells."""
        check_setup_arguments(cls.__name__, kwargs)
        names = [field.modality for field in fields]
        present = [name for name in names if name in mdata.mod]
        check_modality_names(names)
        check_unique_names(mdata, present)
        check_is_current(mdata, present)
        check_not_view(mdata)
        if not is_paired:
            check_unshared_names(mdata, present)
        contexts = [ContextField(name, context_key, names) for name in names]
        if kwargs.get("source_registry") is None:
            # Before any field is registered: a setup that fails leaves the MuData as it was.
            present_contexts = [field for field in contexts if field.is_present(mdata)]
            check_contexts(mdata, present_contexts, cls._lonely_contexts, stacklevel=4)
            cls._find_groups(mdata, setup_method_args[SETUP_ARGS_KEY], context_key, names)
        manager = DataManager(
            fields=fields + contexts,
            setup_method_args=setup_method_args,
            # Different cells in images and transcriptomes are expected here, but scvi-tools refuses them by default.
            validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
        )
        manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def _find_groups(
        cls, mdata: MuData, arguments: dict[str, Any], context_key: list[str], modalities: list[str]
    ) -> None:
        """Replace groups among the arguments of a setup by their members, which are saved with the model."""
        if arguments.get(ARGUMENT) is None:
            arguments.pop(ARGUMENT, None)
            return
        if not cls._draws_groups:
            raise ValueError(
                f"{cls.__name__} draws no documents of several contexts, so context_groups has no effect. Leave it "
                "out, or train petri_scvi.PETRI."
            )
        arguments[ARGUMENT] = find_groups(mdata, arguments[ARGUMENT], context_key, modalities)


class SetupMixin(RegistrationMixin):
    """Registration of images, expression and contexts."""

    _reads_all: ClassVar[bool] = True
    """Whether the model reads every modality that is registered."""

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        context_key: str | Sequence[str] = CONTEXT_KEY,
        context_groups: Groups | Sequence[str] | None = None,
        images_key: str = IMAGES_KEY,
        image_channels: Sequence[str | int] | None = None,
        rna_layer: str | None = None,
        modalities: Mapping[str, Kind | Mapping[str, Any] | str | None] | None = None,
        is_paired: bool = False,
        hide_partners: bool = False,
        **kwargs: Any,
    ) -> None:
        """Register modalities and contexts.

        Every value is checked once, in chunks. Nothing is copied; the code of each cell's context is written to
        ``obs["_scvi_petri_context"]`` of each modality.

        Parameters
        ----------
        mdata
            MuData with one modality or several.
        context_key
            ``obs`` column of each modality, or several that together define a context, the perturbation first:
            ``["perturbation", "background", "dose"]``.
        context_groups
            Groups of related contexts, which may overlap, for example complexes or pathways. In training, a share of
            the documents holds cells of several contexts of a group:
            ``train(datasplitter_kwargs={"group_share": 0.5})``, which is the default. Accepted are

            - a mapping from each group to its perturbations, or the path of a GMT file (``.gmt``);
            - a column of ``obs`` that lists the groups of each cell's perturbation, or of ``var`` that lists those of
              each gene, with a list or text with semicolons in each row; or such a column itself, a
              :class:`pandas.Series` whose index has the perturbations;
            - for a ``context_key`` of several columns, some of these: contexts with the same values form a group.
              ``"perturbation"`` draws documents of one perturbation over all backgrounds and doses.

            Members are names of contexts or, if ``context_key`` has several columns, labels of the first one. Members
            that the data has are saved with the model. Known relations from the same source are then no evidence:
            :func:`petri_scvi.tl.score_screen` warns, and leaves them out with ``leave_out_groups=True``.
        images_key
            ``obsm`` slot of the crops, shape ``(n, C, H, W)``: numpy, ``numpy.memmap``, h5py, zarr or dask.
        image_channels
            Names or positions of the channels to use, in this order; all if ``None``. scPortrait's arrays hold mask
            channels first: leave these out.
        rna_layer
            Layer with the expression; if ``None``, ``"counts"`` if there is such a layer, else ``X``.
        modalities
            What is measured in each modality: its kind, by name or as :class:`petri_scvi.modalities.Kind`, which also
            says where its cells are. Any number of modalities, several of one kind among them, for example
            ``{"image": "images", "rna": "counts", "protein": Kind("continuous", layer="clr")}``; the others of
            ``mdata`` are left out. By default ``{"image": "images", "rna": "counts"}``, as far as ``mdata`` has them,
            with the three arguments above; a warning names the modalities that this leaves out. These arguments may
            refer to modalities of another name, ``{"images_key": "painting"}``, or to none: ``{"rna_layer": None}``
            trains on images alone.
        is_paired
            Whether cells of one name in several modalities are the same cell.
        hide_partners
            Of a paired screen: whether a cell is kept out of the documents of its own measurements in other modalities,
            in training and afterwards, and all its measurements are in the same part of the split. What crosses
            modalities then comes from other cells of the context.
        kwargs
            For scvi-tools: ``source_registry``, when a saved setup is transferred. Arguments of other models, such as
            ``batch_key``, are refused.

        Raises
        ------
        KeyError
            A modality, slot, layer or column is missing.
        ValueError
            The data cannot be used, or no group has two perturbations of the data; the error message explains the fix.

        Warns
        -----
        UserWarning
            Members of groups are not in the data, groups have fewer than two that are, or contexts were measured in one
            modality only.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        check_is_mudata(mdata)
        arguments, source_registry = setup_method_args[SETUP_ARGS_KEY], kwargs.get("source_registry")
        if is_by_kind(modalities, [one.argument for one in cls._modality_classes]):
            kinds = find_kinds(mdata, cast("Mapping[str, Any]", modalities), arguments, source_registry)
            arguments["modalities"] = {name: kind.as_json() for name, kind in kinds.items()}
            fields = [kind.make_field(name) for name, kind in kinds.items()]
        elif source_registry is None:
            fields = default_fields(cls._modality_classes, mdata, modalities, arguments)
            if cls._reads_all:
                warn_unused(cls.__name__, mdata, fields, cls._modality_classes, modalities)
        else:
            fields = saved_fields(cls._modality_classes, source_registry, arguments)
        if source_registry is None:
            check_partners(mdata, [field.modality for field in fields], is_paired, hide_partners)
        if not hide_partners:
            arguments.pop("hide_partners")
        cls._register(mdata, fields, context_columns(context_key), is_paired, setup_method_args, **kwargs)


def check_contexts(mdata: MuData, fields: Sequence[ContextField], lonely_contexts: str, *, stacklevel: int) -> None:
    """Require contexts that gather cells, and that modalities share some.

    Parameters
    ----------
    mdata
        Data that has the modalities of all fields.
    fields
        Contexts of each modality.
    lonely_contexts
        What becomes of contexts measured in one modality only, for the warning.
    stacklevel
        Stack level of the warning: 2 is the caller.

    Raises
    ------
    ValueError
        Every cell has its own context, no context is shared, or a cell has different contexts in the modalities.
    """
    contexts: dict[str, set[str]] = {}
    for field in fields:
        field.validate_field(mdata)
        context_key = list(field.context_key)
        for key in context_key:
            where = f"mdata[{field.modality!r}].obs[{key!r}]"
            warn_missing_words(as_text(mdata.mod[field.modality].obs[key]), where)
        labels = field.labels(mdata, field.modality)
        contexts[field.modality] = set(labels)
        n_contexts = len(contexts[field.modality])
        if n_contexts == len(labels) > 1:
            raise ValueError(
                f"every cell of mdata[{field.modality!r}] has a context of its own: obs[{context_key}] takes "
                f"{n_contexts} values in {n_contexts} cells. Name a column that cells share, such as the perturbation."
            )
    if len(contexts) < 2:
        return
    _check_paired_cells(fields, mdata)
    n_modalities = Counter(context for found in contexts.values() for context in found)
    shared = [context for context, n in n_modalities.items() if n > 1]
    counts = ", ".join(f"{len(found)} in mdata[{modality!r}]" for modality, found in contexts.items())
    if not shared:
        raise ValueError(
            f"the modalities share no context: obs[{context_key}] takes {counts}, none in common; "
            f"for example {' and '.join(repr(min(found)) for found in contexts.values())}. "
            "Use the same names in all modalities, or train PETRI on one modality with "
            "modalities={'rna_layer': None}."
        )
    lonely = [name for name, found in contexts.items() if not found.intersection(shared)]
    if lonely:
        raise ValueError(
            f"mdata[{lonely[0]!r}] shares no context with another modality: obs[{context_key}] takes {counts}; for "
            f"example {min(contexts[lonely[0]])!r}. Use the same names in all modalities, or leave the modality out of "
            "modalities=...."
        )
    n_single = len(n_modalities) - len(shared)
    if n_single:
        warnings.warn(
            f"{n_single} contexts were measured in one modality only ({counts}, {len(shared)} in common). "
            f"{lonely_contexts}",
            UserWarning,
            stacklevel=stacklevel,
        )


def _check_paired_cells(fields: Sequence[ContextField], mdata: MuData) -> None:
    """Require that a cell in two modalities has the same context in both."""
    labels = {field.modality: field.labels(mdata, field.modality) for field in fields}
    for one, other in combinations(labels, 2):
        names = labels[one].index.intersection(labels[other].index)
        n_different = int((labels[one][names].to_numpy() != labels[other][names].to_numpy()).sum())
        if n_different:
            raise ValueError(
                f"{n_different} of {len(names)} cells that are in mdata[{one!r}] and in "
                f"mdata[{other!r}] have another obs[{list(fields[0].context_key)}] in each. Give a cell one "
                "context, or rename the cells if they are different ones: "
                "mdata = petri_scvi.pp.build_mudata(**mdata.mod)."
            )
