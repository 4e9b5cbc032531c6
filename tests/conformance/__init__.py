"""Apps and exchanges that a server answers in the same way with and without devsup in front of it."""
