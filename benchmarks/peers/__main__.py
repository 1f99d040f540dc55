"""The command. Owns its options, the order of the rounds, and what is printed when.

Rounds are interleaved: each library has its turn in every cell of a round before the next begins,
so that a slow minute of the machine falls on all of them.
"""

import argparse
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.peers.catalogue import PEERS, REDIS, STORES, US, Peer, choose, our_name
from benchmarks.peers.cells import CELLS, CONCURRENCY, SMALL, Cell, Scale
from benchmarks.peers.chart import draw
from benchmarks.peers.environments import default_cache, python_of, versions_of
from benchmarks.peers.growth import grow
from benchmarks.peers.measuring import wait_for_quiet
from benchmarks.peers.order import BATCH, GATHERED, NAP_SECONDS, THREADS
from benchmarks.peers.programs import ROOT, Failed, find_redis, open_place, run_program
from benchmarks.peers.results import Results
from benchmarks.peers.table import render
from benchmarks.peers.targets import judge

DESCRIPTION = "Measure deferrable beside other libraries, in one run; see benchmarks/README.md."
OWN_CELLS = ("growth", "memory")
SHOWN_PACKAGES = ("python", "redis", "hiredis", "coredis", "anyio", "uvloop")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    scale = SMALL if options.scale == "small" else Scale()
    if options.jobs:
        scale = replace(scale, jobs=options.jobs, naps=options.jobs // 2)
    results = Results()
    pythons = prepare(options.peers, options.cache, results)
    results.configuration = configuration(options.rounds, scale)
    for number in range(1, options.rounds + 1):
        for name in options.cells:
            tell(f"round {number} of {options.rounds}: {name}")
            run_cell(name, options.peers, pythons, scale, results, options.patience)
        if options.json:  # after each round: a run is long, and may be ended
            results.write(options.json)
    print(render(results, judge(results, scale.naps * NAP_SECONDS / CONCURRENCY)))
    if options.svg:
        draw(results, options.svg)
    return 1 if any(trouble.startswith(US) for trouble in results.troubles) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=DESCRIPTION)
    cells = [*CELLS, *OWN_CELLS]
    parser.add_argument(
        "--peers", type=peers, default=list(PEERS.values()), metavar="A,B",
        help=f"some of {', '.join(PEERS)}, or all of a store: {', '.join(STORES)}; by default all",
    )  # fmt: skip
    parser.add_argument(
        "--cells", type=lambda text: text.split(","), default=cells, metavar="A,B",
        help=f"some of {', '.join(cells)}; by default all",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--jobs", type=int, help="no-ops in a cell; half as many jobs sleep")
    parser.add_argument(
        "--scale", choices=("full", "small"), default="full", help="small: to see that it runs"
    )
    parser.add_argument(
        "--patience", type=float, default=0.0, metavar="SECONDS",
        help="how long to wait before each cell until the machine is idle; default: 0",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw a chart, with matplotlib")
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), metavar="FOLDER",
        help="where the peers are installed; default: %(default)s",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    unknown = set(options.cells) - set(cells)
    if unknown:
        parser.error(f"unknown cells {', '.join(unknown)}; there are {', '.join(cells)}")
    return options


def peers(text: str) -> list[Peer]:
    try:
        return choose(text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def prepare(chosen: Sequence[Peer], cache: Path, results: Results) -> dict[str, Path]:
    """The interpreters of those that could be installed."""
    pythons = {}
    for peer in chosen:
        try:
            python = python_of(peer, cache)
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "stderr", None) or error
            results.troubles.append(f"{peer.name}, installation: {reason}")
            continue
        pythons[peer.name] = python
        installed = versions_of(python)
        own = [need.partition("[")[0].lower() for need in peer.needs]
        wanted = [*own, *(each for each in SHOWN_PACKAGES if each not in own)]
        found = {package: installed[package] for package in wanted if package in installed}
        results.versions[peer.name] = found
    return pythons


def run_cell(
    name: str,
    chosen: Sequence[Peer],
    pythons: Mapping[str, Path],
    scale: Scale,
    results: Results,
    patience_seconds: float,
) -> None:
    for peer in chosen:
        python = pythons.get(peer.name)
        if python is None:
            continue
        if name in CELLS:
            for cell in CELLS[name]:
                if cell.is_for(peer):
                    wait_for_quiet(patience_seconds)
                    measure(cell, name, peer, python, scale, results)
        elif peer.name == our_name(peer.store):
            wait_for_quiet(patience_seconds)
            run_own_cell(name, peer, python, scale, results)


def measure(
    cell: Cell, name: str, peer: Peer, python: Path, scale: Scale, results: Results
) -> None:
    try:
        results.add(peer.name, cell.run(peer, python, scale))
    except Failed as error:
        note_trouble(results, peer, name, error)


def run_own_cell(name: str, peer: Peer, python: Path, scale: Scale, results: Results) -> None:
    """What only deferrable goes through."""
    try:
        if name == "growth":
            for figures in grow(peer, python, scale):
                results.add_growth(figures)
        elif peer.store == REDIS:
            results.add(peer.name, {"in_memory": in_memory_rate(peer, python, scale.jobs)})
    except Failed as error:
        note_trouble(results, peer, name, error)


def in_memory_rate(peer: Peer, python: Path, jobs: int) -> float:
    with open_place(peer, python, jobs) as place:
        taken = run_program(
            python, "benchmarks.peers.in_memory", str(jobs), variables=place.variables(CONCURRENCY)
        )
        tally = place.ledger.tally(jobs, with_ends=False)
        if not tally.is_exact:
            raise Failed(f"{tally.missing} jobs were lost, {tally.doubled} ran twice or more")
        return jobs / taken["seconds"]


def note_trouble(results: Results, peer: Peer, cell: str, error: Failed) -> None:
    results.troubles.append(f"{peer.name}, {cell}: {error}")
    tell(results.troubles[-1])


def configuration(rounds: int, scale: Scale) -> dict[str, object]:
    version = subprocess.run(
        [find_redis(), "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return {
        "rounds": rounds,
        "jobs": scale.jobs,
        "sleeping jobs": scale.naps,
        "concurrency": CONCURRENCY,
        "gather": GATHERED,
        "batch": BATCH,
        "threads": THREADS,
        "checkout": describe_checkout(),
        "server": version,
        "SQLite": sqlite3.sqlite_version,
        "file system": file_system(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "load before": os.getloadavg()[0],
    }


def file_system() -> str:
    """That of the folder for temporary files, where the files of SQLite are, too."""
    command = ["stat", "-f", "-c", "%T", tempfile.gettempdir()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def describe_checkout() -> str:
    """The measured commit, and whether there are uncommitted changes."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no git"
    return done.stdout.strip()


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
