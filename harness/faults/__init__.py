"""The nemesis's repertoire: one module per fault family, a schedule drawn before the run, and who carries it out."""
