"""Print what a chat session can draw on, as a tree. The app does not import this file: saving it restarts nothing."""

import sqlite3
from contextlib import closing
from itertools import groupby
from pathlib import Path

DATABASE = Path(__file__).parent.parent / "data" / "planets.db"


def read_rows() -> list[tuple[str, str]]:
    with closing(sqlite3.connect(DATABASE)) as connection:
        return connection.execute("SELECT kind, name FROM planets ORDER BY kind, distance_million_km").fetchall()


def tree(rows: list[tuple[str, str]]) -> str:
    lines = ["planets"]
    for kind, group in groupby(rows, key=lambda row: row[0]):
        lines.append(f"├─ {kind}")
        lines.extend(f"│  ├─ {name}" for _, name in group)
    return "\n".join(lines)


if __name__ == "__main__":
    print(tree(read_rows()) if DATABASE.exists() else "No data yet. Start the app and ask it something first.")
