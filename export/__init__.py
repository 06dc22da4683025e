"""The workshop: from labelled photographs to a shipped model. Needs torch; stays off the device."""
