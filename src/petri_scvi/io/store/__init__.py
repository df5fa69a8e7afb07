"""The format of a training store: which tables and arrays it has, where each row lies, and its checksums.

``docs/large_screens.md`` lists the contents of a store, and ``docs/decisions/training-store.md`` gives the reasons.
``_source.py`` opens the sources, ``_tables.py`` joins their tables and orders the rows, ``_arrays.py`` converts images
and matrices, ``_file.py`` writes and checks bytes, and ``_zarr.py`` copies a finished store to zarr.
Open first: ``_write.py``, which runs these steps, then ``_file.py``.
"""
