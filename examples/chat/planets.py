"""The database: eight planets in a SQLite file that is made on first use."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

DATABASE = Path(__file__).parent / "data" / "planets.db"


class Planet(NamedTuple):
    name: str
    kind: str
    diameter_km: int
    distance_million_km: float
    year_days: float


PLANETS = [
    Planet("Mercury", "rocky", 4_879, 57.9, 88.0),
    Planet("Venus", "rocky", 12_104, 108.2, 224.7),
    Planet("Earth", "rocky", 12_756, 149.6, 365.2),
    Planet("Mars", "rocky", 6_792, 228.0, 687.0),
    Planet("Jupiter", "gas giant", 142_984, 778.5, 4_331.0),
    Planet("Saturn", "gas giant", 120_536, 1_432.0, 10_747.0),
    Planet("Uranus", "ice giant", 51_118, 2_867.0, 30_589.0),
    Planet("Neptune", "ice giant", 49_528, 4_515.0, 59_800.0),
]

TABLE = """CREATE TABLE IF NOT EXISTS planets
(name TEXT PRIMARY KEY, kind TEXT, diameter_km INTEGER, distance_million_km REAL, year_days REAL)"""
NAMED = "SELECT * FROM planets WHERE instr(lower(?), lower(name)) ORDER BY distance_million_km"
LARGEST = "SELECT * FROM planets ORDER BY diameter_km DESC LIMIT 3"


def find(query: str) -> list[Planet]:
    """The planets the query names, or the three largest if it names none."""
    with closing(_connect()) as connection:
        rows = connection.execute(NAMED, (query,)).fetchall() or connection.execute(LARGEST).fetchall()
    return [Planet(*row) for row in rows]


def _connect() -> sqlite3.Connection:
    DATABASE.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(DATABASE)
    try:
        # Checked on every connect: the file may have been deleted while the app runs.
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'planets'").fetchone():
            _fill(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _fill(connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")  # two first queries at once: the second sees a whole table or none
        connection.execute(TABLE)
        connection.executemany("INSERT OR IGNORE INTO planets VALUES (?, ?, ?, ?, ?)", PLANETS)
