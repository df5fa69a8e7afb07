"""Preconditions that several functions check. Each error names the call that fixes it."""

from __future__ import annotations

import importlib
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from mudata import MuData

from petri_scvi._constants import ALL, CHANNEL_NAMES_KEY, IMAGE, RNA
from petri_scvi.common._channels import stored_channel_names
from petri_scvi.common._labels import read_column
from petri_scvi.common._numbers import check_float32, check_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from anndata import AnnData
    from numpy.typing import NDArray


def require(module: str, extra: str) -> Any:
    """Import an optional package, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{module} is missing; run pip install "petri-scvi[{extra}]"', name=module) from error


def check_sizes(**sizes: Any) -> None:
    """Require whole numbers of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral):
            raise ValueError(f"{name}={size!r}; it must be a whole number of at least 1, such as {name}=8.")
        if size < 1:
            raise ValueError(f"{name}={size}; it must be at least 1.")


def check_seed(seed: Any) -> None:
    """Require a seed that makes a call repeatable."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed={seed!r}; it must be a whole number of at least 0, such as seed=0.")


def check_flags(**flags: Any) -> None:
    """Require True or False, since any text, even ``"no"``, would count as True."""
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise ValueError(f"{name}={flag!r}; pass {name}=True or {name}=False.")


def context_columns(context_key: str | Sequence[str]) -> list[str]:
    """The columns that define a context; at least one."""
    columns = [context_key] if isinstance(context_key, str) else list(context_key or [])
    if not columns:
        raise ValueError(
            f"context_key is empty: {context_key!r}. Name at least one obs column, for example 'perturbation'."
        )
    return columns


def check_is_mudata(mdata: object) -> None:
    """Require a MuData."""
    if not isinstance(mdata, MuData):
        raise TypeError(
            f"expected a MuData, found {type(mdata).__name__}. Put the modalities together first: "
            "mdata = petri_scvi.pp.build_mudata(image=..., rna=...)."
        )


def check_not_view(mdata: MuData) -> None:
    """Require a MuData of its own, to which the codes of contexts can be written."""
    if mdata.is_view:
        raise ValueError(
            f"mdata is a view of {mdata.n_obs} cells of another MuData, so nothing can be written to it. Copy it "
            "first: mdata = mdata.copy()."
        )


def check_modality(mdata: MuData, modality: str, argument: str) -> None:
    """Require that a modality exists."""
    if modality not in mdata.mod:
        raise KeyError(
            f"modality {modality!r} is not in mdata.mod, which has {list(mdata.mod)}. Name the modality to use, for "
            f"example modalities={{{argument!r}: {next(iter(mdata.mod), modality)!r}}}, or {{{argument!r}: None}} to "
            "leave it out."
        )


def check_modality_names(names: Iterable[str]) -> None:
    """Refuse a name that results have for all modalities together."""
    if ALL in names:
        raise ValueError(
            f"a modality is called {ALL!r}, which results call all modalities together. Give it another name: "
            f"mdata = petri_scvi.pp.build_mudata(image=mdata[{ALL!r}], ...)."
        )


def check_context(mdata: MuData, modality: str, context_key: Sequence[str]) -> None:
    """Require one context per cell of a modality."""
    for key in context_key:
        have = [name for name, other in mdata.mod.items() if key in other.obs]
        if have and key not in mdata.mod[modality].obs:
            where = f"mdata[{modality!r}].obs"
            raise KeyError(
                f"context_key={key!r} is not a column of {where}, which has {list(mdata.mod[modality].obs)}; "
                f"mdata[{have[0]!r}] has it, and modalities share contexts. Name the column alike in both, or, if all "
                f"cells of this modality have one value, write it: {where}[{key!r}] = '...'. Or leave it out of "
                "context_key."
            )
    check_context_columns(mdata.mod[modality].obs, f"mdata[{modality!r}]", context_key)


def check_context_columns(
    obs: pd.DataFrame, where: str, context_key: Sequence[str], argument: str = "context_key"
) -> None:
    """Require one context per cell of a table."""
    for key in context_key:
        n_missing = int(read_column(obs, key, f"{where}.obs", argument=argument).isna().sum())
        if n_missing:
            raise ValueError(
                f"{where}.obs[{key!r}] is missing for {n_missing} of {len(obs)} cells. "
                "Drop these cells or name their context, for example 'non-targeting'."
            )


def check_unique_names(mdata: MuData, modalities: Sequence[str]) -> None:
    """Require that no two cells of one modality have the same name."""
    for modality in modalities:
        if not mdata.mod[modality].obs_names.is_unique:
            raise ValueError(
                f"mdata[{modality!r}].obs_names are not unique. Call mdata[{modality!r}].obs_names_make_unique() first."
            )


def check_different(names: pd.Index, what: str, remedy: str) -> None:
    """Require unique names.

    Parameters
    ----------
    names
        Names that results have, or that are looked up.
    what
        What they name, for example ``"genes of mdata['rna']"``.
    remedy
        The call that makes them unique.
    """
    twice = names[names.duplicated()].unique()
    if len(twice):
        raise ValueError(f"{len(twice)} names of {what} are not unique, for example {twice[0]!r}. {remedy}.")


def check_unshared_names(mdata: MuData, modalities: Sequence[str]) -> None:
    """Require that no name of a cell occurs in two modalities."""
    seen: dict[str, str] = {}
    for modality in modalities:
        names = mdata.mod[modality].obs_names
        shared = [name for name in names if name in seen]
        if shared:
            raise ValueError(
                f"{len(shared)} cells of mdata[{modality!r}] and mdata[{seen[shared[0]]!r}] have the same name, for "
                f"example {shared[0]!r}. MuData treats them as one cell. If they are different cells, "
                "rename them: mdata = petri_scvi.pp.build_mudata(**mdata.mod). If they are the same cells, pass "
                "is_paired=True."
            )
        seen.update(dict.fromkeys(names, modality))


def check_partners(mdata: MuData, modalities: Sequence[str], is_paired: bool, hide_partners: bool) -> None:
    """Require cells in several modalities if their partners are to be hidden.

    Raises
    ------
    ValueError
        There are none, or they would be refused.
    """
    check_flags(hide_partners=hide_partners)
    if not hide_partners:
        return
    if not is_paired:
        raise ValueError(
            "hide_partners=True, but cells of one name count as different cells. If they are the same cells, pass "
            "is_paired=True as well; otherwise leave hide_partners out."
        )
    names = pd.Index(np.concatenate([mdata.mod[name].obs_names for name in modalities if name in mdata.mod]))
    if names.is_unique:
        raise ValueError(
            f"hide_partners=True, but no cell is in two of {list(modalities)}. Leave hide_partners out, or give the "
            "measurements of a cell one name in all modalities."
        )


def check_images(images: Any, where: str, adata: AnnData | None = None) -> None:
    """Require non-empty numeric crops of shape (n, C, H, W); the AnnData that holds them may name their channels."""
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) != 4:
        raise ValueError(
            f"{where} has shape {shape}; expected four axes, (n_cells, C, H, W). "
            "Add the channel axis to single-channel crops with images[:, None]."
        )
    if 0 in shape:
        raise ValueError(
            f"{where} is empty: its shape is {shape}. Every axis of (n_cells, C, H, W) must be at least 1."
        )
    _check_channels_first(shape, where, 0 if adata is None else len(stored_channel_names(adata) or []))
    kind = np.dtype(images.dtype).kind
    if kind not in "uif":
        raise ValueError(
            f"{where} has dtype {images.dtype}; expected integers as captured (uint8, uint16) or floats. "
            "Convert with images.astype('uint8')."
        )
    check_numbers(images, where)


def _check_channels_first(shape: tuple[int, ...], where: str, n_named: int) -> None:
    """Refuse crops of shape (n, H, W, C): they would be treated as many channels of few pixels each."""
    _, first, second, last = shape
    if n_named == first or (n_named != last and last >= min(first, second) and (first != second or second == last)):
        return
    reason = f"there are {n_named} channel names" if n_named == last else "its last axis is the odd one out"
    raise ValueError(
        f"{where} has shape {shape}, which seems to be (n_cells, H, W, C), since {reason}; expected "
        f"(n_cells, C, H, W). Move the channels with numpy.moveaxis(images[:], -1, 1). If there are {first} channels "
        f"of {second} x {last} pixels, name them all in uns[{CHANNEL_NAMES_KEY!r}]."
    )


def crops_of(data: AnnData | MuData, modality: str, images_key: str) -> tuple[AnnData, Any]:
    """Cells with images, an AnnData itself or a modality of a MuData, and their crops of shape (n, C, H, W)."""
    adata = data
    if isinstance(data, MuData):
        if modality not in data.mod:
            raise KeyError(
                f"modality={modality!r} is not in mdata.mod; it has {list(data.mod)}. Name the one with crops."
            )
        adata = data.mod[modality]
    if images_key not in adata.obsm:
        raise KeyError(
            f"images_key={images_key!r} is not in obsm, which has {sorted(adata.obsm)}. Name the slot with the crops."
        )
    images = adata.obsm[images_key]
    check_images(images, f"obsm[{images_key!r}]", adata)
    return adata, images


def check_finite_images(chunks: Iterable[NDArray[Any]], where: str) -> None:
    """Require finite pixels that single precision can hold."""
    n_bad = n_cells = 0
    for chunk in chunks:
        check_float32(chunk, where)
        n_cells += len(chunk)
        n_bad += int((~np.isfinite(chunk)).any(axis=(1, 2, 3)).sum())
    if n_bad:
        raise ValueError(
            f"{where} has NaN or infinite pixels in {n_bad} of {n_cells} cells. Drop these cells, or replace the "
            "pixels with numpy.nan_to_num(images)."
        )


def check_expression(chunks: Iterable[NDArray[Any]], where: str) -> None:
    """Require finite, non-negative expression that single precision can hold, and no empty cells."""
    n_nan = n_negative = n_empty = n_cells = 0
    for chunk in chunks:
        check_float32(chunk, where)
        n_cells += len(chunk)
        n_nan += int((~np.isfinite(chunk)).sum())
        n_negative += int((chunk < 0).sum())
        n_empty += int((chunk == 0).all(axis=1).sum())
    if n_nan:
        raise ValueError(
            f"{where} has {n_nan} NaN or infinite values. Replace them, for example with 0, or drop the genes."
        )
    if n_negative:
        raise ValueError(
            f"{where} has {n_negative} negative values; expected counts, or log-normalised values, which are never "
            "negative. Name the layer that holds them with rna_layer=..., for example rna_layer='counts'."
        )
    if n_empty:
        raise ValueError(
            f"{where} has {n_empty} of {n_cells} cells without any count. "
            "Drop them first: scanpy.pp.filter_cells(mdata['rna'], min_counts=1); mdata.update()."
        )


def check_integers(chunks: Iterable[NDArray[Any]], where: str) -> None:
    """Require whole numbers; :func:`check_expression` checks for NaN and infinity."""
    for chunk in chunks:
        is_fraction = np.isfinite(chunk) & (chunk != np.round(chunk))
        if is_fraction.any():
            raise ValueError(
                f"{where} has values that are not whole numbers, for example {chunk[is_fraction][0]:.4g}; "
                "expression_likelihood='nb' models counts. Register the counts with "
                "PETRI.setup_mudata(mdata, rna_layer='counts'), or pass expression_likelihood='normal' for "
                "log-normalised values."
            )


def choose_modality_pair(found: list[str], wanted: Sequence[str] | None) -> tuple[str, str]:
    """Two of the modalities: the wanted ones, or images and RNA, or the first two."""
    if wanted is None:
        wanted = [IMAGE, RNA] if {IMAGE, RNA} <= set(found) else found[:2]
    if len(wanted) != 2 or not set(wanted) <= set(found):
        raise ValueError(f"modalities={list(wanted)!r} are not accepted; pass two of {found}")
    return str(wanted[0]), str(wanted[1])
