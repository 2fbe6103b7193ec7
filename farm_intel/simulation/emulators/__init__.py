"""Protocol emulators: servers that speak as the real providers do and all look at the one farm world."""
