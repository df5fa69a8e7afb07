"""The format of a training store: which tables and arrays it has, where each row lies, and its checksums.

A store is begun, filled and given its name in ``_write.py``; ``_zarr.py`` copies a finished one to zarr.
Open first: ``_write.py``, then ``_file.py``.
"""
