"""Which modalities are registered, of which kind, and where their cells are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi._checks import check_modality
from petri_scvi._compat import FIELD_REGISTRIES_KEY, SETUP_ARGS_KEY
from petri_scvi._constants import IMAGES_KEY
from petri_scvi.common._warn import warn
from petri_scvi.modalities import KINDS, Kind, as_kind, field_of_kind, is_by_kind, likely_kind, modality_class_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from petri_scvi.modalities import Modality, ModalityField

    Classes = Sequence[type[Modality]]
    """Kinds of modality that are registered by arguments of ``setup_mudata``."""

PLACES: dict[str, Any] = {"images_key": IMAGES_KEY, "image_channels": None, "rna_layer": None}
"""Arguments of ``setup_mudata`` that say where the cells of the default modalities are, and their defaults."""


def find_kinds(
    mdata: MuData,
    modalities: Mapping[str, Any],
    arguments: Mapping[str, Any],
    source_registry: Mapping[str, Any] | None,
) -> dict[str, Kind]:
    """Kind of each modality, with the place of its cells.

    They are in the order of kinds and of their names: the weights that a model starts from depend on the order, and the
    same modalities should give the same model.

    Raises
    ------
    KeyError
        ``mdata`` does not have a modality.
    ValueError
        A kind is not known, or an argument for the default modalities is given, too.
    """
    kinds = {name: as_kind(value, name) for name, value in modalities.items()}
    order = list(KINDS)
    kinds = {name: kinds[name] for name in sorted(kinds, key=lambda name: (order.index(kinds[name].kind), name))}
    if source_registry is not None:
        return kinds
    given = [name for name, default in PLACES.items() if arguments.get(name, default) != default]
    if given:
        raise ValueError(
            f"{given[0]}={arguments[given[0]]!r} has no effect where modalities are named with their kinds. Say it of "
            "the modality: modalities={'image': Kind('images', obsm=..., channels=...), "
            "'rna': Kind('counts', layer=...)}."
        )
    for name in kinds:
        if name not in mdata.mod:
            raise KeyError(
                f"modality {name!r} is not in mdata.mod, which has {list(mdata.mod)}. Name those to use, each with its "
                f"kind, for example modalities={{{next(iter(mdata.mod), name)!r}: {kinds[name].kind!r}}}."
            )
    return {name: kind.find(mdata.mod[name]) for name, kind in kinds.items()}


def default_fields(
    classes: Classes, mdata: MuData, modalities: Mapping[str, Any] | None, arguments: Mapping[str, Any]
) -> list[ModalityField]:
    """Fields of the default modalities that the data has, without those that are left out."""
    defaults = {one.argument: one.default_name for one in classes}
    unknown = set(modalities or {}) - set(defaults)
    if unknown:
        raise ValueError(
            f"modalities has {sorted(unknown)}; expected each modality with its kind, one of {list(KINDS)}, for "
            f"example modalities={{{min(unknown)!r}: 'continuous'}}, or the setup arguments {sorted(defaults)}, for "
            f"example modalities={defaults}."
        )
    wanted = {**defaults, **(modalities or {})}
    unused = [name for name in mdata.mod if name not in wanted.values()]
    fields = []
    for modality_class in classes:
        argument = modality_class.argument
        name = wanted[argument]
        if name is None:
            continue
        # A MuData with a single modality is accepted; one with other modalities probably uses other names.
        if name in mdata.mod or argument in (modalities or {}) or unused or not set(wanted.values()) & set(mdata.mod):
            check_modality(mdata, name, argument)
            kind = modality_class.find_cells(mdata.mod[name], modality_class.kind_of_arguments(arguments))
            fields.append(modality_class.make_field(modality_class.field_name(name), name, kind))
    if not fields:
        accepted = ", ".join(f"{argument!r}: ..." for argument in defaults)
        raise ValueError(f"no modality is left; name at least one in modalities={{{accepted}}}.")
    return fields


def warn_unused(
    model: str, mdata: MuData, fields: Sequence[ModalityField], classes: Classes, modalities: Mapping[str, Any] | None
) -> None:
    """Name modalities that are left out although nobody asked for it, and the call that includes them.

    Parameters
    ----------
    model
        Name of the model's class.
    mdata
        Data that is set up.
    fields
        Fields of the modalities that are used.
    classes
        Default modalities.
    modalities
        What the user passed. Default modalities that are left out by it are left out on purpose.
    """
    used = {field.modality: (field.attr_name, field.attr_key) for field in fields}
    known = {*used, *(one.default_name for one in classes if modalities)}
    unused = [name for name, adata in mdata.mod.items() if name not in known and adata.n_obs]
    if not unused:
        return
    kinds = {name: likely_kind(mdata.mod[name]).at(*place) for name, place in used.items()}
    kinds |= {name: likely_kind(mdata.mod[name]) for name in unused}
    named = ", ".join(f"{name!r}: {kind.as_argument(mdata.mod[name])}" for name, kind in kinds.items())
    without = ", ".join(f"{name!r}: {kinds[name].as_argument(mdata.mod[name])}" for name in used)
    warn(
        f"{model} reads {list(used)} of mdata and leaves out {unused}. To include them, name every modality with its "
        f"kind, such as {model}.setup_mudata(mdata, modalities={{{named}}}); to leave them out without this message, "
        f"modalities={{{without}}}."
    )


def saved_fields(classes: Classes, registry: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[ModalityField]:
    """Fields of a saved setup; new data may lack a modality, or have a slot that would be preferred."""
    places = registry[FIELD_REGISTRIES_KEY]
    fields = []
    for modality, (modality_class, field) in registered_modalities(classes, registry).items():
        place = places[field]["data_registry"]
        kind = modality_class.kind_of_arguments(arguments).at(place["attr_name"], place["attr_key"])
        fields.append(modality_class.make_field(field, modality, kind))
    return fields


def registered_modalities(classes: Classes, registry: Mapping[str, Any]) -> dict[str, tuple[type[Modality], str]]:
    """Each registered modality with its class and the name of its field in the registry."""
    modalities = registry[SETUP_ARGS_KEY].get("modalities")
    if is_by_kind(modalities, [one.argument for one in classes]):
        return {
            name: (modality_class_of(as_kind(kind, name)), field_of_kind(name)) for name, kind in modalities.items()
        }
    return {
        modality: (modality_class, field)
        for modality_class in classes
        for field, saved in registry[FIELD_REGISTRIES_KEY].items()
        if field == modality_class.field_name(modality := saved["data_registry"]["mod_key"])
    }
