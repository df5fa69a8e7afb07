"""Files from the internet, downloaded once, verified and cached.

``_registry.py`` and ``_registry_public.py`` list address, size and checksum of every file.
Open first: ``_fetch.py``.
"""
