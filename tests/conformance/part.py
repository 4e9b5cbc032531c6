"""What a save changes."""

NAME = "part"
