"""Benchmarks of devsup beside uvicorn's own reloader: `python -m bench`."""
