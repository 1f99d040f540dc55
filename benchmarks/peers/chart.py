"""The chart: small bars of each measure, with the range of the rounds; an SVG, by matplotlib."""

from pathlib import Path

from benchmarks.peers.catalogue import RAW, US
from benchmarks.peers.results import MEASURES, Results

__all__ = ["draw"]

SHOWN = ("single", "concurrent", "batch", "process", "worker_cpu", "naps", "p50", "threads")
COLUMNS = 4
OURS, THEIRS, FLOOR = "#c2410c", "#64748b", "#cbd5e1"


def draw(results: Results, path: Path) -> None:
    """Write it to `path`.

    Raises:
        ImportError: there is no matplotlib.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import StrMethodFormatter

    rows = -(-len(SHOWN) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 3.4 * rows))
    for ax, key in zip(axes.flat, SHOWN, strict=True):
        measure = MEASURES[key]
        found = results.of_measure(key)
        names = sorted(found, key=lambda name: found[name].median, reverse=not measure.is_rate)
        medians = [found[name].median for name in names]
        below = [found[name].median - found[name].least for name in names]
        above = [found[name].most - found[name].median for name in names]
        colours = [_colour(name) for name in names]
        ax.barh(names, medians, xerr=[below, above], color=colours, error_kw={"capsize": 2})
        ax.set_title(f"{measure.title}, {measure.unit}", fontsize=10)
        ax.tick_params(labelsize=8)
        ax.locator_params(axis="x", nbins=4)
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    rounds = results.configuration.get("rounds")
    figure.suptitle(f"Medians and ranges, {rounds} interleaved round(s); the best is on top")
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def _colour(name: str) -> str:
    if name.startswith(US):
        return OURS
    return FLOOR if name == RAW else THEIRS
