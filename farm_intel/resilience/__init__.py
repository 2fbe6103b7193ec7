"""The only back-offs, breakers, clocks."""
