"""Pixels to field statistics: reads each block of a scene once for all farms and all indices."""
