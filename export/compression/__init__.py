"""A network made small: channels cut out, weights and activations in INT8."""
