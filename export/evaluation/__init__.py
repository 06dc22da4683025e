"""What a network is worth, and what its card says of it."""
