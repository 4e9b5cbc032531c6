"""A save right after another one is never taken for it.

Python believes compiled code whose source has the same size and was changed in the same second. So while a source is that young,
its compiled code is neither read nor written: it would stand for what is saved next.
"""

import time

_YOUNG = 2.0  # seconds; FAT counts in twos
_ASKED_FOR = "<py_compile>"  # the loader of who compiles on purpose


def patch(machinery):
    """Let the loader of source files say of a young one what it says where there is none to compare with."""
    known = machinery.SourceFileLoader.path_stats

    def path_stats(self, path):
        stats = known(self, path)
        if stats["mtime"] > time.time() - _YOUNG and self.name != _ASKED_FOR:
            raise OSError(f"{path} has just been changed")
        return stats

    machinery.SourceFileLoader.path_stats = path_stats
