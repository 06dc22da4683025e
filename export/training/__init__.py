"""A network taught: where it starts, what it hears, and what is kept of it."""
