"""Does the code follow the specification? The only place, beside the harness, where the two meet."""
