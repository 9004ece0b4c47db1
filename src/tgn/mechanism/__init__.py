"""What figure 1 derives or computes without a trained model: free energy, rank, relaxation."""
