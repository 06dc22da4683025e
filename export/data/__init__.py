"""Labelled pictures made ready, and what training sees of them."""
