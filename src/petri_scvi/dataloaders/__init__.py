"""From a registered MuData to minibatches of documents.

The sampler chooses the rows of the next documents; readers read them from memory or disk.
Open first: ``_datamodule.py``, then ``_sampler.py``.
"""

from petri_scvi.dataloaders._datamodule import DocumentDataModule, DocumentDataset, PrefetchLoader, prefetch
from petri_scvi.dataloaders._partners import without_partners
from petri_scvi.dataloaders._readers import ChannelReader, ColumnReader, open_rows
from petri_scvi.dataloaders._row_reader import RowReader
from petri_scvi.dataloaders._sampler import DocumentRows, DocumentSampler, rows_by_context, split_cells

__all__ = [
    "ChannelReader",
    "ColumnReader",
    "DocumentDataModule",
    "DocumentDataset",
    "DocumentRows",
    "DocumentSampler",
    "PrefetchLoader",
    "RowReader",
    "open_rows",
    "prefetch",
    "rows_by_context",
    "split_cells",
    "without_partners",
]
