"""Right numbers per farm and day, from satellite scenes to stored, checked observations."""
