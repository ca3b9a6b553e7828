"""The chat service: its commands and replies, the state machine that carries them out, ids, and the edges' protocol."""
