"""Sentinel Hub through its own client: Catalog API for scenes, Process API for pixels, Statistical API for statistics.

`options` and `evalscripts` are light; everything else imports `sentinelhub` and is only to be imported by bootstrap,
inside the function that builds the provider.
"""
