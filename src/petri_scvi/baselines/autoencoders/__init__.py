"""Networks that reconstruct cells: masked, variational and cross-modal autoencoders.

MAE and the cross-modal autoencoder are built from PETRI's parts; scVI and MULTIVI are those of scvi-tools.
Open first: ``_mae.py`` or ``_scvi.py``.
"""

from petri_scvi.baselines.autoencoders._cross_modal_autoencoder import CrossModalAutoencoder
from petri_scvi.baselines.autoencoders._mae import MAE
from petri_scvi.baselines.autoencoders._multivi import MULTIVI
from petri_scvi.baselines.autoencoders._scvi import SCVI

__all__ = ["CrossModalAutoencoder", "MAE", "MULTIVI", "SCVI"]
