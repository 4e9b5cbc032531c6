"""Keeps development servers running while their code changes."""

__version__ = "0.1.0"
