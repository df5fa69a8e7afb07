"""The kinds of measurement that a model reads, one class each: how it is registered, encoded, decoded and scored.

``_kinds.py`` finds the class of a kind by its name, ``_settings.py`` has the arguments that networks are built from,
``_field.py`` what fields have in common.
``_images.py``, ``_expression.py``, ``_tables.py`` and ``_peaks.py`` have the kinds.
Open first: ``_modality.py``, then ``_images.py``.
"""

from petri_scvi.modalities._expression import CountsModality, ExpressionModality, check_counts
from petri_scvi.modalities._field import FINGERPRINT, MatrixField, ModalityField, field_of_kind
from petri_scvi.modalities._fingerprint import difference, fingerprint
from petri_scvi.modalities._images import ImageModality
from petri_scvi.modalities._kinds import KINDS, Kind, as_kind, is_by_kind, likely_kind, modality_class_of, register_kind
from petri_scvi.modalities._modality import Modality
from petri_scvi.modalities._peaks import BinaryModality, PeaksModality
from petri_scvi.modalities._settings import EncoderSettings, Settings, settings_by_name
from petri_scvi.modalities._tables import ContinuousModality, FeaturesModality

MODALITIES: tuple[type[Modality], ...] = (ImageModality, ExpressionModality)
"""What :meth:`petri_scvi.PETRI.setup_mudata` registers where modalities are not named with their kinds."""

for _modality_class in (
    ImageModality,
    CountsModality,
    ContinuousModality,
    FeaturesModality,
    BinaryModality,
    PeaksModality,
):
    register_kind(_modality_class)

__all__ = [
    "FINGERPRINT",
    "KINDS",
    "MODALITIES",
    "BinaryModality",
    "ContinuousModality",
    "CountsModality",
    "EncoderSettings",
    "ExpressionModality",
    "FeaturesModality",
    "ImageModality",
    "Kind",
    "MatrixField",
    "Modality",
    "ModalityField",
    "PeaksModality",
    "Settings",
    "as_kind",
    "check_counts",
    "difference",
    "field_of_kind",
    "fingerprint",
    "is_by_kind",
    "likely_kind",
    "modality_class_of",
    "register_kind",
    "settings_by_name",
]
