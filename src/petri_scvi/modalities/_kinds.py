"""What is measured in a modality, and the class of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from petri_scvi._constants import COUNTS_LAYER, IMAGES_KEY
from petri_scvi.dataloaders import open_rows
from petri_scvi.modalities._field import field_of_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from petri_scvi.modalities._field import ModalityField
    from petri_scvi.modalities._modality import Modality

    AnyModality = TypeVar("AnyModality", bound=type[Modality])

KINDS: dict[str, type[Modality]] = {}
"""Name of each kind to its class; see :func:`register_kind`."""

N_CELLS_LOOKED_AT = 100
"""Cells by which a message guesses what a modality measures."""


@dataclass(frozen=True)
class Kind:
    """What a modality measures, and where: a value of ``setup_mudata(modalities=...)``.

    The name of a kind alone, such as ``"counts"``, stands for ``Kind("counts")``.

    Parameters
    ----------
    kind
        What the values are, which determines encoder, decoder and loss:

        - ``"images"``: crops of cells, ``(n, C, H, W)``; ViT, squared error.
        - ``"counts"``: UMI counts of genes, proteins or guides; Perceiver, negative binomial.
        - ``"continuous"``: log-normalised expression or intensities, NaN where missing; Perceiver, squared error.
        - ``"features"``: columns of any scale, such as CellProfiler's; as ``"continuous"``, but each column counts
          alike.
        - ``"binary"``: zeros and ones; Perceiver, Bernoulli.
        - ``"peaks"``: low counts without overdispersion; Perceiver, Poisson.

        Or a name that :func:`register_kind` was given.
    layer
        Layer of the modality that holds the cells.
    obsm
        ``obsm`` slot of the modality that holds the cells. Without ``layer`` and ``obsm``, the cells are where the kind
        expects them: ``X``, for counts the layer ``"counts"`` if there is one, for images
        ``obsm["single_cell_images"]``.
    channels
        Images only: names or positions of the channels to use, in this order; all if ``None``.

    Raises
    ------
    ValueError
        Both ``layer`` and ``obsm`` are given.
    TypeError
        ``kind``, ``layer`` or ``obsm`` is no text.

    Examples
    --------
    >>> from petri_scvi.modalities import Kind
    >>> kinds = {"image": "images", "rna": Kind("counts", layer="raw"), "cp": Kind("features", obsm="X_cp")}
    >>> petri_scvi.PETRI.setup_mudata(mdata, modalities=kinds)
    """

    kind: str
    layer: str | None = None
    obsm: str | None = None
    channels: Sequence[str | int] | None = None

    def __post_init__(self) -> None:
        for name in ("kind", "layer", "obsm"):
            value = getattr(self, name)
            if not isinstance(value, str) and (name == "kind" or value is not None):
                raise TypeError(f"{name}={value!r}; expected text, for example Kind('counts', layer='raw').")
        if self.layer is not None and self.obsm is not None:
            raise ValueError(
                f"layer={self.layer!r} and obsm={self.obsm!r} both say where the cells of the modality are; pass one."
            )

    @property
    def place(self) -> tuple[Literal["X", "layers", "obsm"], str | None]:
        """Attribute of the modality that holds its cells, and their key in it."""
        if self.obsm is not None:
            return "obsm", self.obsm
        return ("X", None) if self.layer is None else ("layers", self.layer)

    def at(self, attr_name: str, attr_key: str | None) -> Kind:
        """The same kind with the cells at the place of a field."""
        layer, obsm = (attr_key if attr_name == name else None for name in ("layers", "obsm"))
        return replace(self, layer=layer, obsm=obsm)

    def as_json(self) -> dict[str, Any]:
        """Plain values from which ``as_kind`` makes the kind again."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        if self.channels is not None:
            found["channels"] = list(self.channels)
        return found

    def find(self, adata: AnnData) -> Kind:
        """The same kind with the place where a modality has its cells."""
        return modality_class_of(self).find_cells(adata, self)

    def as_argument(self, adata: AnnData) -> str:
        """The kind as a user would write it for this modality: its name where the cells are found without more."""
        attr_name, attr_key = self.place
        if self.channels is None and replace(self, layer=None, obsm=None).find(adata) == self.find(adata):
            return repr(self.kind)
        return f"Kind({self.kind!r}, {({'layers': 'layer'}).get(attr_name, attr_name)}={attr_key!r})"

    def make_field(self, modality: str) -> ModalityField:
        """Field that registers the cells of a modality."""
        return modality_class_of(self).make_field(field_of_kind(modality), modality, self)


def register_kind(modality_class: AnyModality) -> AnyModality:
    """Register a kind of modality under its name, so that ``setup_mudata(modalities=...)`` accepts it; a decorator.

    A saved model refers to its kinds by name, so the module that registers them has to be imported before the model is
    loaded.

    Parameters
    ----------
    modality_class
        Subclass of :class:`petri_scvi.modalities.Modality` whose attribute ``kind`` is the name.

    Returns
    -------
    The class.

    Raises
    ------
    ValueError
        The class has no name, or that of another class.
    """
    name = getattr(modality_class, "kind", None)
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"{modality_class.__name__}.kind is {name!r}; give the class a name: kind = 'my_kind' in its body."
        )
    known = KINDS.get(name)
    # A notebook cell that is run again defines the class again.
    is_same = known is not None and (known.__module__, known.__qualname__) == (
        modality_class.__module__,
        modality_class.__qualname__,
    )
    if known is not None and not is_same:
        raise ValueError(
            f"the kind {name!r} is that of {known.__module__}.{known.__qualname__}; give {modality_class.__name__} "
            "another name."
        )
    KINDS[name] = modality_class
    return modality_class


def modality_class_of(kind: Kind) -> type[Modality]:
    """Class of a kind.

    Raises
    ------
    ValueError
        No class is registered under this name.
    """
    if kind.kind not in KINDS:
        raise ValueError(
            f"kind {kind.kind!r} is not known; expected one of {list(KINDS)}. If it is a kind of your own, import the "
            "module that registers it with petri_scvi.modalities.register_kind first."
        )
    return KINDS[kind.kind]


def likely_kind(adata: AnnData) -> Kind:
    """What a modality seems to measure, for an example in a message; some of its cells are read."""
    if IMAGES_KEY in adata.obsm:
        return Kind("images")
    tables = [Kind("features", obsm=key) for key in adata.obsm]
    values = adata.layers[COUNTS_LAYER] if COUNTS_LAYER in adata.layers else adata.X
    if values is None:
        return next(iter(tables), Kind("continuous"))
    some = open_rows(values).read(np.arange(min(adata.n_obs, N_CELLS_LOOKED_AT)))
    is_count = bool(((some >= 0) & (some == np.round(some))).all())
    return Kind("continuous" if not is_count else "counts" if some.max(initial=0) > 1 else "binary")


def as_kind(value: Any, modality: str) -> Kind:
    """Kind from a name, from what :meth:`Kind.as_json` returned, or from a kind.

    Raises
    ------
    ValueError, TypeError
        The value is none of these, or of an unknown kind.
    """
    if isinstance(value, str):
        value = Kind(value)
    elif isinstance(value, Mapping):
        accepted = list(Kind.__dataclass_fields__)
        if unknown := set(value) - set(accepted):
            raise ValueError(f"modalities[{modality!r}] has {sorted(unknown)}; expected some of {accepted}.")
        if "kind" not in value:
            raise ValueError(f"modalities[{modality!r}] has no 'kind'; expected one of {list(KINDS)}.")
        value = Kind(**value)
    if not isinstance(value, Kind):
        raise TypeError(
            f"modalities[{modality!r}]={value!r}; expected the name of a kind, one of {list(KINDS)}, or "
            "petri_scvi.modalities.Kind(...)."
        )
    modality_class_of(value)
    return value


def is_by_kind(modalities: Mapping[str, Any] | None, arguments: Sequence[str]) -> bool:
    """Whether ``modalities`` maps modalities to kinds, and not arguments of ``setup_mudata`` to modalities."""
    if not modalities:
        return False
    return any(isinstance(value, Kind | Mapping) for value in modalities.values()) or (
        not set(modalities) & set(arguments) and all(value in KINDS for value in modalities.values())
    )
