"""Documents of registered cells: companions of the same context, or of contexts that the user chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from petri_scvi._checks import check_sizes
from petri_scvi.common._labels import label_list
from petri_scvi.dataloaders import rows_by_context
from petri_scvi.model._documents import arrange_documents, documents_of_targets, fuse_cells
from petri_scvi.model.setup._registered import RegisteredData

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi.dataloaders import DocumentRows

MIXED = -1
"""Context code of documents with companions of chosen contexts."""


class CompanionsMixin(RegisteredData):
    """Places cells in documents after training."""

    def _documents_of(
        self, manager: AnnDataManager, modality: str, rows: NDArray[np.integer], n_cells: int | None, seed: int
    ) -> list[tuple[DocumentRows, NDArray[np.integer]]]:
        """Documents that hold the rows, each once, and companions of their context."""
        codes = self._codes(manager)
        return arrange_documents(
            rows,
            codes[modality],
            modality,
            {name: rows_by_context(codes_of_modality) for name, codes_of_modality in codes.items()},
            self._document_size(n_cells),
            np.random.default_rng([seed, 0]),
            cells=self._numbered_cells(manager),
        )

    def _chosen_documents(
        self,
        manager: AnnDataManager,
        modality: str,
        rows: NDArray[np.integer],
        companions: Mapping[str, str | Sequence[str] | None],
        n_cells: int | None,
        seed: int,
    ) -> list[tuple[DocumentRows, NDArray[np.integer]]]:
        """One document per row, with companions of the contexts that were chosen for each modality."""
        if companions and not self.module.set_transformer.blocks:
            raise ValueError(
                f"companions={dict(companions)} have no effect: the model has no set transformer, so cells are "
                "reconstructed on their own. Train petri_scvi.PETRI with set_transformer_depth of at least 1."
            )
        codes, cells = self._codes(manager), self._numbered_cells(manager)
        contexts, pool = {}, {}
        for name, wanted in companions.items():
            self._require_modality(manager, name)
            rows_of = rows_by_context(codes[name])
            known = list(manager.get_state_registry(f"context_{name}")["categories"])
            if wanted is None:
                contexts[name], pool[name] = codes[modality][rows], rows_of
            else:
                measured = {known[code]: code for code in rows_of}
                names = label_list(wanted, f"companions[{name!r}]")
                missing = sorted(set(names) - set(measured))
                if missing:
                    raise ValueError(
                        f"companions={{{name!r}: ...}} has contexts {missing} without cells in "
                        f"mdata[{name!r}]; it has {sorted(measured)[:20]}{' and more' if len(measured) > 20 else ''}."
                    )
                contexts[name] = np.full(len(rows), MIXED)
                pool[name] = {MIXED: np.concatenate([rows_of[measured[label]] for label in names])}
            # A cell is not its own companion, so it needs another one of its modality; of each, if partners are hidden.
            n_needed = 2 if name == modality or cells is not None else 1
            short = {c for c in np.unique(contexts[name]).tolist() if len(pool[name].get(c, ())) < n_needed}
            if short:
                labels = wanted if wanted is not None else sorted(known[code] for code in short)[:20]
                raise ValueError(
                    f"contexts {labels} have fewer than {n_needed} cells in mdata[{name!r}] to be companions. Leave "
                    f"their cells out of indices, or name another context in companions={{{name!r}: ...}}."
                )
        rng = np.random.default_rng([seed, 0])
        return documents_of_targets(rows, modality, contexts, pool, self._document_size(n_cells), rng, cells=cells)

    def _document_size(self, n_cells_per_context: int | None) -> int:
        """Cells per document and modality (S); as in training if ``None``."""
        if n_cells_per_context is None:
            return self.n_cells_per_context_
        check_sizes(n_cells_per_context=n_cells_per_context)
        return n_cells_per_context

    def _fuse(
        self,
        manager: AnnDataManager,
        modality: str,
        rows: NDArray[np.integer],
        *,
        mask: NDArray[np.bool_] | None,
        n_cells: int | None,
        seed: int,
        companions: Mapping[str, str | Sequence[str] | None] | None = None,
    ) -> Any:
        """Fuse rows with companions, by default of their context; masked companions if the rows are masked."""
        self.module.eval()
        readers = self._readers(manager)
        if companions is None:
            documents = self._documents_of(manager, modality, rows, n_cells, seed)
        else:
            documents = self._chosen_documents(manager, modality, rows, companions, n_cells, seed)
        return fuse_cells(
            self.module,
            readers,
            modality,
            rows,
            documents,
            target_mask=mask,
            companions_are_masked=mask is not None,
            seed=seed + 1,
        )
