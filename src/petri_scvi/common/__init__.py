"""Rules that several rooms need, each written once; this room imports no other.

Which row is which cell (``_rows``), how labels are read and compared (``_labels``) and joined into one name
(``_joined_labels``), files written whole or not at all (``_files``) and by one process at a time (``_lock``), what
files can hold (``_storable``), warnings that point to the user's line (``_warn``).
Open ``_rows`` first: every embedding of a MuData is read through it.
"""

from petri_scvi.common._files import written_whole
from petri_scvi.common._joined_labels import joined_columns, joined_labels, split_labels
from petri_scvi.common._lock import sole_writer
from petri_scvi.common._rows import rows_from_indices, rows_in_mdata, rows_in_modality

__all__ = [
    "joined_columns",
    "joined_labels",
    "rows_from_indices",
    "rows_in_mdata",
    "rows_in_modality",
    "sole_writer",
    "split_labels",
    "written_whole",
]
