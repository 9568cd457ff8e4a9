"""Slides on the machines of a Dask cluster; the parts that need Dask import it when they are used."""
