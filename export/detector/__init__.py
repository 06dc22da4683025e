"""The workshop for `gender_edge.faces.Spotter`: scenes, network, training, INT8, evaluation."""
