"""The Python client: begin with ``impl.client.client.Client``."""
