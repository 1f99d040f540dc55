"""The table of docs/speed.md has the figures from which its chart is drawn."""

from processes import ROOT

from benchmarks.peers.catalogue import RAW
from benchmarks.peers.results import MEASURES, Results

COLUMNS = {"ardiq (Rust core)": "ardiq", "raw redis-py": RAW}
ROWS = {
    "one by one, jobs/s": "single",
    "one by one, CPU µs/job": "single_cpu",
    "`gather` of 100, jobs/s": "concurrent",
    "in batches, jobs/s": "batch",
    "in batches, CPU µs/job": "batch_cpu",
    "blocking, one caller, jobs/s": "blocking",
    "blocking, 8 threads, jobs/s": "threads",
    "process no-ops, jobs/s": "process",
    "worker CPU, µs/job": "worker_cpu",
    "server CPU, µs/job": "server_cpu",
    "server reads a job": "reads",
    "5,000 sleeps of 0.05 s, 100 at once, s": "naps",
    "latency of an idle worker, p50, ms": "p50",
    "p99, ms": "p99",
}


def cells(line: str) -> list[str]:
    return [each.strip() for each in line.strip("|").split("|")]


def test_table_and_chart_have_the_same_figures() -> None:
    lines = (ROOT / "docs" / "speed.md").read_text().splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("| | deferrable |"))
    names = [COLUMNS.get(each, each) for each in cells(lines[first])[1:]]
    results = Results.read(ROOT / "benchmarks" / "figures.json")
    seen = 0

    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        title, *shown = cells(line)
        for name, cell in zip(names, shown, strict=True):
            measure = MEASURES.get(ROWS.get(title, ""))
            if measure is None:
                continue
            figure = results.figure(name, measure.key)
            if figure is None:
                assert cell == "-"
            else:
                assert float(cell.replace(",", "")) == figure.median, (title, name)
                seen += 1

    assert seen == sum(len(each) for each in results.samples.values())
