"""Every injected fault at every provider, through the container an operator would have."""
