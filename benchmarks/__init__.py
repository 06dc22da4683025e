"""Accuracy against latency and memory, on the machine at hand. Stands on gender_edge alone."""
