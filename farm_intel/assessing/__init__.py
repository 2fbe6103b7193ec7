"""From observations to fused values, series, seasons and states."""
