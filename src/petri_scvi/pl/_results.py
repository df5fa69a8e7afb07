"""Read what ``tl`` wrote, from memory or from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi._constants import UNS_KEY

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def read_result(data: AnnData | MuData, name: str, *, field: str, written_by: str) -> dict[str, Any]:
    """Read a result.

    Parameters
    ----------
    data
        Where ``tl`` wrote it.
    name
        Name of the result in ``uns["petri_scvi"]``.
    field
        Field that the result must have.
    written_by
        Call that writes it, without ``petri_scvi.tl``.

    Raises
    ------
    KeyError
        There is no such result, or it is that of another function.
    """
    results = data.uns.get(UNS_KEY, {})
    call = f"petri_scvi.tl.{written_by}"
    if name not in results:
        raise KeyError(f"uns[{UNS_KEY!r}] has no {name!r}; it has {sorted(results)}. Call {call} first.")
    if field not in results[name]:
        raise KeyError(
            f"uns[{UNS_KEY!r}][{name!r}] has no {field!r}; it has {sorted(results[name])}. It is the result of "
            f"another function; call {call} first."
        )
    return dict(results[name])


def read_score(
    data: AnnData | MuData, key: str | None, *, start: str, end: str = "", field: str, written_by: str
) -> dict[str, Any]:
    """Read the score of one embedding, whose slot is a part of the result's name: ``start + "_" + key + end``.

    Parameters
    ----------
    data, field, written_by
        As in :func:`read_result`.
    key
        Slot of the embedding; may be ``None`` if a single one was scored.
    start, end
        What the name begins and ends with.

    Raises
    ------
    KeyError
        There is no such result.
    ValueError
        ``key`` is ``None`` and several embeddings were scored.
    """
    if key is None:
        results = data.uns.get(UNS_KEY, {})
        slots = [str(result.get("parameters", {}).get("key")) for result in results.values()]
        found = [slot for name, slot in zip(results, slots, strict=True) if name == f"{start}_{slot}{end}"]
        if len(found) > 1:
            raise ValueError(f"several embeddings were scored: {found}. Name one, for example key={found[0]!r}.")
        key = found[0] if found else "KEY"
    return read_result(data, f"{start}_{key}{end}", field=field, written_by=written_by)


def key_argument(key: str, default: str) -> str:
    """Argument that passes the name of a result to the call that writes it."""
    return "" if key == default else f", key_added={key!r}"


def slot_argument(key: str | None) -> str:
    """Argument that passes the slot of an embedding to the call that scores it."""
    return "" if key is None else f", {key!r}"
