"""`python -m devsup`."""

from devsup.cli import main

main()
