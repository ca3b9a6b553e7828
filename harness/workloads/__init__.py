"""What clients do while the nemesis works: one module per workload, and the calls they make."""
