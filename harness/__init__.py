"""Does the running cluster hold up? Real processes, real sockets, real kills, and one history that is judged.

A run starts the nodes of a cluster as separate processes, puts a proxy on every link between them and in front of
each of them, lets clients chat while a nemesis breaks things, heals everything, waits for progress, and checks the
recorded history against the specification of the chat service. What was done, seen and decided stays in a run folder.
"""
