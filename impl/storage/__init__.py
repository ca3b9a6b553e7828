"""What a node keeps: the write-ahead log over a ``Disk``, real or simulated, and whose directory it is."""
