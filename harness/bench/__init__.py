"""What things cost: figures per operation and as ratios, each beside the bound that it has to keep."""
