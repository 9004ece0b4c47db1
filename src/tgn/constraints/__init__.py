"""Paper 3: what the tables of gains, weights and sheaf say of its claims."""
