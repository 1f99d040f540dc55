"""The tables, one a store: one row a measure, one column a library; and the targets. As Markdown.

A cell is the median, and behind ± half the range in percent of it. The last two columns are ratios
within the run, above 1 where deferrable is better.
"""

from collections.abc import Mapping, Sequence

from benchmarks.peers.catalogue import NOT_PEERS, RAW, STORES, US, names_of, our_name
from benchmarks.peers.growth import AXES, STEPS, step_name
from benchmarks.peers.results import MEASURES, Figure, Measure, Results
from benchmarks.peers.targets import Target

__all__ = ["render"]

NOTHING = "-"


def render(results: Results, targets: Sequence[Target]) -> str:
    parts = [
        f"Jobs in {title}:\n\n{figures(results, store)}"
        for store, title in STORES.items()
        if any(name in results.samples for name in names_of(store))
    ]
    if results.growth:
        parts.append(growth(results))
    parts.append(reached(targets))
    if results.troubles:
        lines = "\n".join(f"- {trouble}" for trouble in results.troubles)
        parts.append(f"Without a figure:\n\n{lines}")
    parts.append(circumstances(results))
    return "\n\n".join(parts)


def figures(results: Results, store: str) -> str:
    names = [name for name in names_of(store) if name in results.samples]
    rows = [["", "", *names, f"{US} / raw", f"{US} / best peer"]]
    for measure in MEASURES.values():
        measured = results.of_measure(measure.key)
        found = {name: measured[name] for name in names if name in measured}
        if found:
            cells = [cell(found.get(name), measure) for name in names]
            rows.append([measure.title, measure.unit, *cells, *ratios(measure, found, store)])
    return markdown(rows)


def cell(figure: Figure | None, measure: Measure) -> str:
    if figure is None:
        return NOTHING
    text = f"{figure.median:,.{measure.digits}f}"
    if len(figure.samples) < 2 or not figure.median:
        return text
    spread = (figure.most - figure.least) / 2 / figure.median
    return f"{text} ±{spread:.0%}"


def ratios(measure: Measure, found: Mapping[str, Figure], store: str) -> list[str]:
    us = our_name(store)
    peers = {name: figure for name, figure in found.items() if name not in NOT_PEERS}
    best = measure.best(peers) if peers else ""
    to_raw = ratio(measure, found.get(us), found.get(RAW))
    to_best = ratio(measure, found.get(us), found.get(best))
    return [to_raw, NOTHING if to_best == NOTHING else f"{to_best} {best}"]


def ratio(measure: Measure, ours: Figure | None, other: Figure | None) -> str:
    if ours is None or other is None or not ours.median or not other.median:
        return NOTHING
    better, worse = (ours, other) if measure.is_rate else (other, ours)
    return f"{better.median / worse.median:.2f}"


def growth(results: Results) -> str:
    rows = [["", *(f"{step}, µs/job" for step in STEPS)]]
    for axis in AXES:
        for value in values_of(results, axis):
            keys = [step_name(axis, value, step) for step in STEPS]
            found = [Figure(tuple(results.growth[key])) for key in keys]
            micros = Measure("", "", "", 1)
            rows.append([f"{axis} {value:,}", *(cell(figure, micros) for figure in found)])
    return markdown(rows)


def values_of(results: Results, axis: str) -> list[int]:
    names = [name.partition(":")[0] for name in results.growth if name.startswith(f"{axis} ")]
    return sorted({int(name.rpartition(" ")[2]) for name in names})


def reached(targets: Sequence[Target]) -> str:
    words = {True: "met", False: "**not met**", None: "not measured"}
    rows = [["target", "at", "wanted", ""]]
    rows += [[each.title, each.measured, each.wanted, words[each.is_met]] for each in targets]
    return markdown(rows)


def circumstances(results: Results) -> str:
    lines = [f"- {key}: {value}" for key, value in results.configuration.items()]
    for name, versions in results.versions.items():
        listed = ", ".join(f"{package} {version}" for package, version in versions.items())
        lines.append(f"- {name}: {listed}")
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
