"""Folds of the event stream into what people and scripts read; nothing here writes events."""
