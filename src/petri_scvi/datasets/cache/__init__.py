"""Files from the internet: which they are, downloaded once, verified and kept.

``_registry.py`` and ``_registry_public.py`` list address, size and checksum of every file.
Open first: ``_fetch.py``.
"""
