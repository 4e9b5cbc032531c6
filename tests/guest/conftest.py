"""The guest's modules are top-level ones where they run."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "devsup" / "guest"))
