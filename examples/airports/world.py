"""The airports, and what is computed of them. No I/O beyond reading the data; no queue."""

import math
import zlib
from typing import Any, TypeAlias

import airportsdata

Airport: TypeAlias = dict[str, Any]

HUBS = (
    *("EDDF", "EGLL", "LFPG", "LEMD", "LTFM", "OMDB", "VIDP", "VTBS", "WSSS", "VHHH"),
    *("RJTT", "ZBAA", "YSSY", "NZAA", "FAOR", "HECA", "DNMM", "HAAB", "SBGR", "SCEL"),
    *("SKBO", "MMMX", "KATL", "KORD", "KDFW", "KLAX", "KJFK", "CYYZ", "PANC", "PHNL"),
)
"""From each airport, the one of these that is nearest by great circle is looked for."""

NOT_IN_THE_DATA = "ZZZZ"
"""What a flight plan says for an aerodrome that has no code. Somebody defers a job for it."""
FOUND_LATER: Airport = {"icao": "ZZZZ", "country": "GL", "lat": 72.5796, "lon": -38.4592}


_data: Any = airportsdata.load("ICAO")
AIRPORTS: dict[str, Airport] = _data
"""About 28,000 of them, by their ICAO codes."""


def choose(count: int) -> list[str]:
    """The codes of `count` airports, spread evenly over all of them."""
    codes = sorted(AIRPORTS)
    return [codes[index * len(codes) // count] for index in range(count)]


def great_circle_km(one: Airport, other: Airport) -> float:
    """The distance by the haversine formula, on a sphere of the earth's mean radius."""
    lat1, lon1, lat2, lon2 = (
        math.radians(each) for each in (one["lat"], one["lon"], other["lat"], other["lon"])
    )
    half_chord = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * 6371.0088 * math.asin(math.sqrt(half_chord))


def nearest_hub(airport: Airport) -> str:
    """The nearest hub and how far it is, as text."""
    km, hub = min((great_circle_km(airport, AIRPORTS[hub]), hub) for hub in HUBS)
    return f"{hub} {km:.1f} km"


def one_in(count: int, code: str, salt: str) -> bool:
    """Whether an airport is one of every `count`, the same ones in each process."""
    return zlib.crc32(f"{salt} {code}".encode()) % count == 0
