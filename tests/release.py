"""Everything that must be true of what is released; ``nox -s release`` runs it.

Owns what is checked, in which order: a source distribution and its wheel are built, their metadata
and contents are checked, the wheel is installed into empty environments with each extra, and a list
of its components (CycloneDX) is written beside it.
"""

import email
import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = Path(__file__).with_name("extras.py")
SUFFIXES = {".py", ".lua", ".typed", ".html", ".css", ".js", ".svg", ".txt"}
IN_SOURCES = ("tests/", "docs/", "examples/", "benchmarks/", "deferrable/", "noxfile.py", "LICENSE")
IN_SOURCES += ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "pyproject.toml")


class Wrong(Exception):
    """Something must not be released like this."""


def main() -> int:
    folder = Path(sys.argv[1])
    try:
        sdist, wheel = build(folder)
        version = check_metadata(sdist, wheel)
        check_contents(sdist, wheel)
        check_same(wheel, folder)
        check_extras(wheel, version, folder)
        bill = write_bill(wheel, version, folder)
    except Wrong as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    names = ", ".join(each.name for each in (sdist, wheel, bill))
    print(f"release: {names} are fit to be released")
    return 0


def run(*command: object, cwd: Path = ROOT) -> str:
    """What a command printed.

    Raises:
        Wrong: it failed.
    """
    words = [str(each) for each in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def tool(name: str) -> Path:
    """A program of this environment."""
    return Path(sys.executable).with_name(name)


def build(folder: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def check_metadata(sdist: Path, wheel: Path) -> str:
    """The version, which both must have."""
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        in_wheel = email.message_from_bytes(archive.read(name))
    with tarfile.open(sdist) as archive:
        (info,) = (
            each
            for each in archive.getmembers()
            if each.name.count("/") == 1 and each.name.endswith("/PKG-INFO")
        )
        opened = archive.extractfile(info)
        assert opened is not None
        in_sdist = email.message_from_bytes(opened.read())
    if in_wheel["Version"] != in_sdist["Version"]:
        raise Wrong(f"the wheel is {in_wheel['Version']}, its source {in_sdist['Version']}")
    return str(in_wheel["Version"])


def check_contents(sdist: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {each for each in archive.namelist() if ".dist-info/" not in each}
    wanted = files_of_package()
    if inside != wanted:
        lacking, surplus = sorted(wanted - inside), sorted(inside - wanted)
        raise Wrong(f"{wheel.name} lacks {lacking}, and must not have {surplus}")
    with tarfile.open(sdist) as archive:
        names = {each.partition("/")[2] for each in archive.getnames()}
    lacking = sorted({*wanted, *files_in_git()} - names)
    lacking += [each for each in IN_SOURCES if not any(name.startswith(each) for name in names)]
    surplus = sorted(each for each in names if is_surplus(each))
    if lacking or surplus:
        raise Wrong(f"{sdist.name} lacks {lacking}, and must not have {surplus}")


def is_surplus(name: str) -> bool:
    """Whether a file of a source distribution is left from work on it."""
    hidden = [part for part in name.split("/") if part.startswith(".")]
    return "__pycache__" in name or not set(hidden) <= {".github", ".gitignore"}


def files_of_package() -> set[str]:
    """What a wheel must hold: every source file, script and marker of the package, and no more."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "deferrable").rglob("*")
        if path.suffix in SUFFIXES and "__pycache__" not in path.parts
    }


def files_in_git() -> Iterator[str]:
    """The files of the checkout that a source distribution must hold; none without git."""
    command = ["git", "ls-files", "deferrable", "tests", "docs", "examples", "benchmarks"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return
    yield from (each for each in done.stdout.splitlines() if (ROOT / each).is_file())


def check_same(wheel: Path, folder: Path) -> None:
    """The wheel from the source distribution must be the one that the checkout gives."""
    direct = folder / "direct"
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", direct, ROOT)
    (other,) = direct.glob("*.whl")
    if other.name != wheel.name or other.read_bytes() != wheel.read_bytes():
        raise Wrong(
            f"{wheel.name} from the source distribution is not {other.name} of the checkout"
        )


# The environments.


def check_extras(wheel: Path, version: str, folder: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = ["", *extras["optional-dependencies"]]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda extra: check_extra(wheel, version, extra, folder), names))


def check_extra(wheel: Path, version: str, extra: str, folder: Path) -> None:
    """Install the wheel with an extra into an empty environment, and use what the extra brings."""
    python = make_environment(wheel, extra, folder)
    shown = run(python, "-I", EXTRAS, extra or "--missing", cwd=folder)
    if shown.split()[-1] != version:
        raise Wrong(f"deferrable.__version__ is {shown.split()[-1]}, the wheel is {version}")
    if not extra:
        run(python, ROOT / "examples" / "demo.py", cwd=folder)


def make_environment(wheel: Path, extra: str, folder: Path) -> Path:
    environment = folder / "environments" / (extra or "bare")
    python = environment / "bin" / "python"
    run(tool("uv"), "venv", "-q", "--no-project", "--python", sys.executable, environment)
    target = f"{wheel}[{extra}]" if extra else str(wheel)
    run(tool("uv"), "pip", "install", "-q", "--python", python, target, cwd=folder)
    return python


def write_bill(wheel: Path, version: str, folder: Path) -> Path:
    """Write the components of an environment with all extras, as a CycloneDX document."""
    path = wheel.with_name(f"deferrable-{version}.cdx.json")
    python = folder / "environments" / "all" / "bin" / "python"
    options = ("--output-reproducible", "--of", "JSON", "-o", path)
    run(sys.executable, "-m", "cyclonedx_py", "environment", *options, python)
    bill = json.loads(path.read_text())
    versions = {each["name"]: each.get("version") for each in bill["components"]}
    if bill["bomFormat"] != "CycloneDX" or versions.get("deferrable") != version:
        raise Wrong(f"{path.name} does not list deferrable {version}")
    unknown = [name for name, each in versions.items() if not each]
    if unknown or not {"anyio", "msgspec", "redis", "aiobotocore"} <= set(versions):
        raise Wrong(f"{path.name} does not list every component with its version: {unknown}")
    return path


if __name__ == "__main__":
    sys.exit(main())
