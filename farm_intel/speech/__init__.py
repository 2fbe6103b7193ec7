"""Speech engines, how units and index names are spoken, rendered audio."""
