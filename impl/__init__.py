"""What runs: the Raft core, its log, the network, the state machine, the node that drives them, HTTP, client."""
