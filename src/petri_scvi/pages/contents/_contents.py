"""What the explorer shows of cells, put together part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from petri_scvi._constants import IMAGES_KEY, RNA, UNS_KEY
from petri_scvi.common._channels import channel_names as all_channel_names
from petri_scvi.common._labels import check_controls
from petri_scvi.common._warn import warn
from petri_scvi.pl.images._montage import Montage, find_crops
from petri_scvi.tl._read_rows import chosen_rows

from ._columns import Columns
from ._dimensions import Cards, cell_numbers, dimension_results, example_cells
from ._expression import changed_genes, log_normalised_rows, top_genes
from ._payload import Payload
from ._profiles import describe_profiles, read_efficacy, read_profiles, read_strength
from ._scores import read_scores
from ._sprites import Crops, add_crops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels
    from petri_scvi.tl.scores._edges import EdgeTable

    from ._cells import Cells

SHARE_OF_COLUMNS = 0.4
"""Largest share of a page that genes and features take; the rest is for crops."""
N_PICKED = 6
"""Perturbations that have a colour when the page opens."""
BYTES_OF_A_CODE = 4 / 3
"""A byte as text."""
CODE_BYTES = 400_000
"""What a page takes before any number."""
ALPHA, MIN_ACTIVITY, MAX_ACTIVITY, N_FINDINGS = 0.05, 0.1, 0.9, 8
"""Of the cards of dimensions: the defaults of :func:`petri_scvi.pages.dimension_report`."""
TARGET_KEY = "target_gene"
REMEDY = "Pass a larger max_megabytes"


class Contents:
    """What the page shows, as it is put together; ``meta`` is what it knows beside the arrays of ``payload``."""

    def __init__(self, cells: Cells, totals: NDArray[np.intp], max_bytes: float) -> None:
        self.cells, self.payload = cells, Payload()
        self.columns = Columns(self.payload, cells)
        self.max_bytes = max_bytes
        self.column_bytes = SHARE_OF_COLUMNS * max_bytes
        counts = np.bincount(cells.kind, minlength=len(cells.kinds))
        kinds = zip(cells.kinds, counts, totals, strict=True)
        self.meta: dict[str, Any] = {"kinds": [{"name": name, "n": n, "total": total} for name, n, total in kinds]}
        self.labels: pd.Series | None = None
        self.controls: list[str] = []
        self.examples: NDArray[np.intp] = np.empty(0, dtype=np.intp)  # (n,), cells whose crops are shown in any case

    def add_points(self, points: NDArray[np.float64], map_name: str) -> None:
        """Coordinates, as two bytes each in a square, and names of the cells."""
        low, high = points.min(axis=0), points.max(axis=0)
        side = max(float((high - low).max()), 1e-9)
        scaled = np.round(32767.5 * (1 + 2 * (points - (low + high) / 2) / side)).clip(0, 65535).astype(np.uint16)
        x, y = (self.payload.array(scaled[:, i]) for i in (0, 1))
        names = self.payload.words(self.cells.names.tolist())
        self.meta["cells"] = {"n": len(self.cells), "x": x, "y": y, "names": names, "map": map_name}

    def add_labels(self, perturbation_key: str | None, guide_key: str, control: Labels | None) -> None:
        """Columns of obs, and which of them name perturbations, guides and controls."""
        keys = {}
        if perturbation_key is not None:
            self.labels = self.cells.labels(perturbation_key)
            keys["perturbation"] = f"obs:{perturbation_key}"
            if control is not None:
                where = {f"obs[{perturbation_key!r}]": self.labels}
                self.controls = check_controls(where, control, remedy=", or control=None if there are none")
        if guide_key in self.cells.obs_names():
            keys["guide"] = f"obs:{guide_key}"
        self.columns.add_obs([key.removeprefix("obs:") for key in keys.values()])
        self.meta |= {"keys": keys, "controls": self.controls}

    def add_features(self, features_key: str) -> None:
        """Measurements of cells, a table in ``obsm`` of a modality."""
        for modality, part in self.cells.parts.items():
            table = part.obsm.get(features_key)
            if isinstance(table, pd.DataFrame):
                here, rows = self.cells.measured(modality)
                numbers = table.select_dtypes("number")
                remedy = f"{REMEDY}, or keep fewer columns in obsm[{features_key!r}]"
                names = [str(name) for name in numbers]
                matrix = numbers.to_numpy(dtype=np.float64)[rows]
                self.columns.add_numbers("feature", names, matrix, here, self._room() / 2, remedy)
                return

    def add_dimensions(self, sae_key: str) -> None:
        """Activations of a sparse autoencoder, and the cards of its dimensions if they were described."""
        space = self.cells.data
        if sae_key not in space.obsm:
            return
        results = dimension_results(space, sae_key)
        matrix = space.obsm[sae_key]
        rows = matrix[self.cells.places] if sparse.issparse(matrix) else chosen_rows(matrix, self.cells.places)
        shown = np.arange(matrix.shape[1]) if results is None else np.flatnonzero(results.is_active())
        here = np.arange(len(self.cells))
        remedy = f"{REMEDY}, or store fewer dimensions in obsm[{sae_key!r}]"
        names = [str(number) for number in shown]
        self.columns.add_numbers("dim", names, rows[:, shown], here, self._room() / 2, remedy)
        if results is None:
            return
        cards = Cards(results, results.is_multimodal(MIN_ACTIVITY, MAX_ACTIVITY), N_FINDINGS, ALPHA)
        source = str(results.activity["parameters"]["modality"])
        modality = source if source in self.cells.parts else next(iter(self.cells.parts))
        numbers_of = cell_numbers(self.cells, modality)
        written = [cards.card(int(number), numbers_of) for number in shown]
        self.examples = np.array(
            [numbers_of[name] for name in example_cells(results, shown.tolist()) if name in numbers_of], dtype=np.intp
        )
        self.meta["dimensions"] = cards.described(written) | {
            "cards": self.payload.json(written),
            "strongest": self.payload.json(cards.strongest(shown.tolist())),
        }

    def add_profiles(
        self,
        every: Cells,
        key: str,
        perturbation_key: str | None,
        guide_key: str,
        replicate_key: str | None,
        edges: EdgeTable | None,
        guide_model: AnnData | None,
        seed: int,
    ) -> None:
        """Profiles of perturbations over all cells, also those that the map does not show."""
        reason = None
        if perturbation_key is None or not self.controls:
            reason = "they are compared with controls: name perturbation_key and control"
        elif key not in every.data.obsm:
            reason = f"there is no embedding obsm[{key!r}]"
        if reason is None and perturbation_key is not None:
            guides_in = guide_key if guide_key in every.obs_names() else None
            try:
                guides, notes = read_profiles(every, key, perturbation_key, guides_in, replicate_key, self.controls)
            except ValueError as error:
                reason = str(error)
                warn(f"the page has no view of perturbations: {reason}")
            else:
                efficacy = read_efficacy(every.data, guide_model)
                kinds = [kind for kind in every.kinds if kind]
                described = describe_profiles(self.payload, guides, kinds, self.controls, edges, efficacy, seed)
                described |= {"strength": read_strength(every.data, key), "notes": notes, "key": key}
                self.meta["profiles"] = described
        self.meta["why_no_profiles"] = reason

    def add_scores(self) -> None:
        """Scores of embeddings, if there are any."""
        found = read_scores(self.cells.data)
        if found is not None:
            self.meta["scores"] = self.payload.json(found)

    @property
    def views(self) -> list[str]:
        """Views of the page that have something to show."""
        parts = {"perturbations": "profiles", "dimensions": "dimensions", "scores": "scores"}
        return ["cells", *(view for view, part in parts.items() if part in self.meta), "about"]

    def add_genes(self, modality: str, genes: Sequence[str] | None, layer: str | None, is_normalized: bool) -> None:
        """Genes to colour by, the genes that stand out in each cell, and those that perturbations change."""
        modality = self._part_of(modality)
        part = self.cells.parts.get(modality)
        if part is None and modality != RNA:
            raise KeyError(
                f"modality={modality!r} is not in mdata.mod; it has {list(self.cells.parts)}. Name the one with "
                "expression: modalities=(images, expression)."
            )
        if part is None or part.n_vars == 0 or (part.X is None and layer is None) or (genes is not None and not genes):
            return
        here, rows = self.cells.measured(modality)
        where = "adata" if isinstance(self.cells.data, AnnData) else f"mdata[{modality!r}]"
        expression = log_normalised_rows(part, rows, layer, where, is_normalized)
        names = part.var_names.to_numpy(dtype=np.str_)
        top, height = top_genes(expression)
        full_top = np.full((len(self.cells), top.shape[1]), 2**16 - 1, dtype=np.uint16)
        full_height = np.zeros(full_top.shape, dtype=np.uint8)
        full_top[here], full_height[here] = top, height
        self.meta["top"] = {
            "names": self.payload.words(names.tolist()),
            "genes": self.payload.array(full_top),
            "height": self.payload.array(full_height),
            "k": top.shape[1],
        }
        changed = {}
        if self.labels is not None and self.controls:
            labels = self.labels.iloc[here].reset_index(drop=True)
            changed = changed_genes(expression, labels, self.controls, names, self._targets(here))
        self.meta |= {"changed_genes": changed, "n_genes": len(names)}
        order = _gene_order(genes, names, expression, self.labels, changed)
        remedy = f"{REMEDY}, or name the genes to keep with genes=[...]"
        left_out = self.columns.add_numbers("gene", names[order], expression[:, order], here, self._room(), remedy)
        others = np.concatenate([left_out, np.delete(names, order)])
        self.meta["other_genes"] = self.payload.words(others.tolist()) if len(others) else None

    def add_images(
        self,
        modality: str,
        images_key: str,
        channels: Sequence[str | int] | None,
        crop_size: int,
        seed: int,
        advance: Callable[[float], None],
    ) -> None:
        """Crops, in the room that is left, and the mean intensity of each channel of all crops."""
        part = self.cells.parts.get(self._part_of(modality))
        if part is not None and images_key == IMAGES_KEY and images_key not in part.obsm:
            return  # a modality of another kind, such as a table of features
        found = find_crops(self.cells.data, channels=channels, modality=modality, images_key=images_key)
        if found is None:
            return
        modality = self._part_of(modality)
        adata, images, positions, channel_names = found
        here, rows = self.cells.measured(modality)
        groups = np.zeros(len(here), dtype=np.intp)
        if self.labels is not None:
            groups = np.asarray(self.labels.iloc[here].factorize()[0])
        montage = Montage(adata, images, {}, 0, True, positions, channel_names)
        crops = Crops(montage, rows, here, groups, np.isin(here, self.examples))
        means = np.full((len(rows), images.shape[1]), np.nan)
        # Without a choice, channels that have no colour are measured, too.
        measured = positions if channels is not None else list(range(images.shape[1]))
        taken = CODE_BYTES + self.payload.n_bytes + BYTES_OF_A_CODE * len(measured) * len(rows)
        room = max(self.max_bytes - taken, 0.0)
        described = add_crops(self.payload, crops, room, crop_size, seed, advance, means)
        self.meta["crops"] = described | {"modality": modality}
        all_names = all_channel_names(adata, int(images.shape[1]), "the imaging modality")
        self.columns.add_intensities([all_names[position] for position in measured], means[:, measured], here)

    def start(self, color: str | None, key: str) -> dict[str, Any]:
        """The view that the page opens with."""
        by_label = {column["label"]: column["id"] for column in reversed(self.columns.columns)}
        usual = self.meta["keys"].get("perturbation", "modality")
        if color is not None and color not in by_label:
            raise KeyError(f"color={color!r} is not among what cells are coloured by: {list(by_label)[:50]}")
        return {"color": usual if color is None else by_label[color], "picked": self._picked(key)}

    def _picked(self, key: str) -> list[str]:
        """Controls, and the perturbations that are strongest in the embedding, or largest if that was not tested."""
        if self.labels is None:
            return []
        counts = self.labels.value_counts()
        names = [str(name) for name in counts.index if name not in self.controls]
        result = self.cells.data.uns.get(UNS_KEY, {}).get(f"perturbation_strength_{key}")
        if result is not None:
            table = result["table"]
            strongest = table.groupby(table["perturbation"].astype(str))["energy_distance"].max()
            known = [name for name in strongest.sort_values(ascending=False).index if name in counts.index]
            names = known or names
        return [*self.controls[:1], *names[:N_PICKED]]

    def _targets(self, here: NDArray[np.intp]) -> dict[str, str]:
        """The gene that each perturbation targets, of those that target a single one."""
        if TARGET_KEY not in self.cells.obs_names() or self.labels is None:
            return {}
        pairs = pd.DataFrame({"name": self.labels, "gene": self.cells.labels(TARGET_KEY)}).iloc[here]
        pairs = pairs.dropna().drop_duplicates().drop_duplicates("name", keep=False)
        return dict(zip(pairs["name"], pairs["gene"], strict=True))

    def _part_of(self, modality: str) -> str:
        """The modality; that of an AnnData is all there is."""
        return next(iter(self.cells.parts)) if isinstance(self.cells.data, AnnData) else modality

    def _room(self) -> float:
        return max(self.column_bytes - self.payload.n_bytes, 0.0)


def _gene_order(
    genes: Sequence[str] | None,
    names: NDArray[np.str_],
    expression: Any,
    labels: pd.Series | None,
    changed: dict[str, dict[str, Any]],
) -> NDArray[np.intp]:
    """Genes asked for; or the targets, those that perturbations change, and then the most variable ones."""
    position = {name: i for i, name in reversed(list(enumerate(names.tolist())))}
    if genes is not None:
        unknown = [gene for gene in genes if str(gene) not in position]
        if unknown:
            raise KeyError(f"genes={unknown[:10]} are not in var_names, which has {names[:10].tolist()} and more")
        return np.array([position[str(gene)] for gene in dict.fromkeys(genes)], dtype=np.intp)
    wanted = [] if labels is None else list(labels.dropna().unique())
    for rank in range(100):
        ends = [of[end] for of in changed.values() for end in ("up", "down")]
        listed = [rows[rank][0] for rows in ends if rank < len(rows)]
        if not listed:
            break
        wanted += listed
    mean = np.asarray(expression.mean(axis=0)).ravel()
    variance = np.asarray(expression.power(2).mean(axis=0)).ravel() - mean**2
    first = [position[name] for name in dict.fromkeys(wanted) if name in position]
    return np.array(list(dict.fromkeys([*first, *np.argsort(-variance, kind="stable").tolist()])), dtype=np.intp)
