"""Tells which Python runs it, be it a Python 2."""

import sys

sys.path[:] = [each for each in sys.path if each]  # a module of the project must not stand for one of the library

import os  # noqa: E402

os.write(int(sys.argv[1]), ('{"version": [%d, %d, %d]}\n' % sys.version_info[:3]).encode())  # noqa: UP031 - Python 2
