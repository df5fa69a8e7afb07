"""Rules that several rooms need, each written once.

``_warn.py`` has warnings that point to the line of the user; ``_storable.py`` says what files can hold.
Open first: ``_labels.py``, how labels in tables are read and compared.
"""
