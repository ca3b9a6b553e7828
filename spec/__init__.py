"""What is right: pure values and functions from the standard library alone, for people to read and checkers to run."""
