"""The kinds of measurement that a model reads, one class each: how it is registered, encoded, decoded and scored.

``_settings.py`` has the arguments that their networks are built from, ``_field.py`` what their fields have in common.
Open first: ``_modality.py``, then ``_images.py``.
"""

from petri_scvi.modalities._expression import ExpressionModality, check_counts
from petri_scvi.modalities._field import FINGERPRINT, MatrixField, ModalityField
from petri_scvi.modalities._fingerprint import difference, fingerprint
from petri_scvi.modalities._images import ImageModality
from petri_scvi.modalities._modality import Modality
from petri_scvi.modalities._settings import EncoderSettings, Settings

MODALITIES: tuple[type[Modality], ...] = (ImageModality, ExpressionModality)
"""What :meth:`petri_scvi.PETRI.setup_mudata` registers."""

__all__ = [
    "FINGERPRINT",
    "MODALITIES",
    "EncoderSettings",
    "ExpressionModality",
    "ImageModality",
    "MatrixField",
    "Modality",
    "ModalityField",
    "Settings",
    "check_counts",
    "difference",
    "fingerprint",
]
