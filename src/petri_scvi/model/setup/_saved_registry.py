"""The saved registry: what a saved model records about its training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scvi.data import AnnDataManager

from petri_scvi.common import user_path
from petri_scvi.model._model_file import model_path, read_model
from petri_scvi.model.setup._instead import AdviceMixin

if TYPE_CHECKING:
    import os


class SavedRegistry(AdviceMixin):
    """Reads saved registries as :meth:`petri_scvi.PETRI.load` does; scvi-tools would run the code in the file."""

    @staticmethod
    def load_registry(
        dir_path: str | os.PathLike[str], prefix: str | None = None, *, trust_file: bool = False
    ) -> dict[str, Any]:
        """Registry that was saved with a model.

        Parameters
        ----------
        dir_path
            Folder the model was saved to.
        prefix
            What was prepended to the names of the files.
        trust_file
            As for :meth:`petri_scvi.PETRI.load`.

        Returns
        -------
        The registry: arguments of the setup, and what each field recorded.

        Raises
        ------
        ValueError
            The folder has no complete model, or a pickled one that is not trusted.
        """
        return read_model(model_path(user_path(dir_path), prefix), trust_file=trust_file).registry

    @staticmethod
    def view_setup_args(
        dir_path: str | os.PathLike[str], prefix: str | None = None, *, trust_file: bool = False
    ) -> None:
        """Print the arguments of the setup that was saved with a model.

        Parameters
        ----------
        dir_path, prefix, trust_file
            As for :meth:`load_registry`.
        """
        registry = SavedRegistry.load_registry(dir_path, prefix, trust_file=trust_file)
        AnnDataManager.view_setup_method_args(registry)

    @classmethod
    def convert_legacy_save(cls, *args: Any, **kwargs: Any) -> None:
        """Not available: no model of petri-scvi was written by scvi-tools before 0.15."""
        raise NotImplementedError(f"{cls.__name__} was never saved in the old format; use {cls.__name__}.load(folder).")
