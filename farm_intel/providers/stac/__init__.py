"""STAC catalogues, live or static, behind `domain.ports.SceneCatalog`."""
