"""Readers of tiled rasters behind `engine.blocks`: ranges with libdeflate, rasterio, and the choice between them."""
