"""The HTTP API: ``app`` is what is served, ``server`` serves it, ``routes`` is the table that both are built from."""
