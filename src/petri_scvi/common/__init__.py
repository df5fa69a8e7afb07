"""Rules that several rooms need, each written once.

``_warn.py`` has warnings that point to the line of the user.
Open first: ``_labels.py``, how labels in tables are read and compared.
"""
