"""From a registered MuData to minibatches of documents.

The sampler chooses the rows of the next documents, readers read them, from memory or disk.
Open first: ``_datamodule.py``, then ``_sampler.py``.
"""

from petri_scvi.dataloaders._datamodule import DocumentDataModule, split_cells
from petri_scvi.dataloaders._dataset import DocumentDataset
from petri_scvi.dataloaders._prefetch import PrefetchLoader, prefetch
from petri_scvi.dataloaders._readers import ChannelReader, open_rows
from petri_scvi.dataloaders._row_reader import RowReader
from petri_scvi.dataloaders._sampler import DocumentRows, DocumentSampler, arrange_documents, rows_by_context

__all__ = [
    "ChannelReader",
    "DocumentDataModule",
    "DocumentDataset",
    "DocumentRows",
    "DocumentSampler",
    "PrefetchLoader",
    "RowReader",
    "arrange_documents",
    "open_rows",
    "prefetch",
    "rows_by_context",
    "split_cells",
]
