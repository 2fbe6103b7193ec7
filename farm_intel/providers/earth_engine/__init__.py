"""Google Earth Engine through its own client: scenes, pixels and statistics."""
