"""Scripts that the project's own interpreter runs: the standard library of Python 3.9 alone; read as text.

Each gets the number of a descriptor, on which it answers in lines of JSON.
"""
