"""What may be connected to: the one guard for addresses that people give."""
