"""Install the start styles' packages: one virtual environment for each set of packages, in .venv-apps/ or $DEVSUP_APPS.

python tests/apps/install.py [STYLE...]     all styles, or those whose names are given; what is there already takes no time
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from styles import STYLES, Style

ROOT = Path(os.environ.get("DEVSUP_APPS") or Path(__file__).resolve().parents[2] / ".venv-apps")


def environment(style: Style) -> Path:
    """Where this style's packages are, or will be: the folder is named for them."""
    key = f"{sys.version_info[:2]} {' '.join(sorted(style.packages.split()))}"
    first = style.packages.split()[-1].partition("[")[0]
    return ROOT / f"{first}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def is_installed(style: Style) -> bool:
    """The stamp is written last."""
    return (environment(style) / ".ready").exists()


def install(style: Style) -> None:
    """Make the style's environment. Raises CalledProcessError when the registry has no such packages."""
    folder = environment(style)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder)], check=True)
    command = [str(_uv()), "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *style.packages.split()]
    subprocess.run(command, check=True)
    (folder / ".ready").touch()


def _uv() -> Path:
    """A uv of our own: its cache and hard links make sixty environments cheap."""
    folder = ROOT / "uv"
    if not (folder / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv"], check=True)
        (folder / ".ready").touch()
    return folder / "bin" / "uv"


def main(names: list[str]) -> int:
    """Install what is missing, saying how far it is."""
    unknown = set(names) - {style.name for style in STYLES}
    if unknown:
        sys.stderr.write(f"There is no style {', '.join(sorted(unknown))}. Styles: {' '.join(map(str, STYLES))}\n")
        return 2
    wanted = [style for style in STYLES if style.name in names or not names]
    missing = {environment(style): style for style in wanted if not is_installed(style)}
    failed = 0
    for number, (folder, style) in enumerate(missing.items(), 1):
        begun = time.monotonic()
        sys.stdout.write(f"[{number}/{len(missing)}] {style.packages} … ")
        sys.stdout.flush()
        try:
            install(style)
        except subprocess.CalledProcessError as exc:
            failed += 1
            sys.stdout.write(f"failed: {exc}\n")
        else:
            sys.stdout.write(f"{time.monotonic() - begun:.1f} s, {folder.name}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
