"""Product rows: what a collection is in each catalogue."""
