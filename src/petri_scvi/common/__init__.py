"""Rules that several rooms share; this room imports no other.

Rows and labels: ``_rows``, ``_labels``, ``_joined_labels``, ``_channels``. Numbers: ``_numbers``, ``_moments``. Files:
``_files``, ``_lock``, ``_one_writer``, ``_sealed``, ``_storable``. Names of users in output: ``_names``. Warnings:
``_warn``.
Open first: ``_rows.py``, through which every embedding of a MuData is read.
"""

from petri_scvi.common._files import hidden_folder, put_in_place, written_whole
from petri_scvi.common._joined_labels import joined_columns, joined_labels, split_labels
from petri_scvi.common._lock import sole_writer
from petri_scvi.common._moments import RunningMoments
from petri_scvi.common._names import check_file_name, in_markup, user_path
from petri_scvi.common._one_writer import is_first_process, one_writer
from petri_scvi.common._rows import check_is_current, rows_from_indices, rows_in_mdata, rows_in_modality
from petri_scvi.common._sealed import (
    UnreadableFileError,
    check_seal,
    check_stored,
    code_in,
    read_sealed,
    seal,
    write_sealed,
)

__all__ = [
    "RunningMoments",
    "UnreadableFileError",
    "check_file_name",
    "check_is_current",
    "check_seal",
    "check_stored",
    "code_in",
    "hidden_folder",
    "in_markup",
    "joined_columns",
    "joined_labels",
    "is_first_process",
    "one_writer",
    "put_in_place",
    "read_sealed",
    "rows_from_indices",
    "rows_in_mdata",
    "rows_in_modality",
    "sole_writer",
    "seal",
    "split_labels",
    "user_path",
    "write_sealed",
    "written_whole",
]
