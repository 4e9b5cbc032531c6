"""What the app says: edit a constant here and save, and watch when the new wording takes over."""

from planets import Planet

VERSION = "1"
GREETING = "Ask me about a planet."
OPENING = "Here is what I found."


def describe(planet: Planet) -> str:
    return (
        f"{planet.name} ({planet.kind}) is {planet.diameter_km:,} km wide and "
        f"{planet.distance_million_km:,.0f} million km from the Sun. A year there lasts {planet.year_days:,.0f} days."
    )


def write_prompt(query: str, planets: list[Planet]) -> str:
    facts = " ".join(describe(planet) for planet in planets)
    return f"{OPENING} You asked: “{query}” {facts} (Answered by version {VERSION}.)"
