"""What a page shows, collected from the data; the HTML around it is written in ``_page.py`` of the room above.

``_payload.py`` packs arrays, and the other files fill it: cells and their map, columns to colour by, crops, expression.
Open first: ``_contents.py``.
"""
