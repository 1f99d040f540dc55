"""How the project is checked: ``nox -s tests``, or ``nox`` for all of it.

Owns which tools run in which environment.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "tests-others", "lint", "types", "docs", "release", "demo"]
nox.options.reuse_venv = "yes"
# Where uv is installed beside nox, an environment takes a tenth of the time.
nox.options.default_venv_backend = "uv|virtualenv"
os.environ.setdefault("UV_SYSTEM_CERTS", "1")  # as pip does, which uv otherwise does not

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
OLDEST, NEWEST = 11, 15
PROCESSES = os.environ.get("DEFERRABLE_TEST_PROCESSES", "4")
"""How many processes share the tests of a session."""


def find_other_pythons() -> list[str]:
    """The other versions that run here, without the one that runs nox; pyenv's are put on PATH."""
    pyenv = Path(os.environ.get("HOME", "/"), ".pyenv", "versions")
    folders = sorted(pyenv.glob("3.*/bin"), reverse=True)
    os.environ["PATH"] = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])
    minors = [minor for minor in range(OLDEST, NEWEST + 1) if minor != sys.version_info.minor]
    return [f"3.{minor}" for minor in minors if _runs(f"python3.{minor}")]


def _runs(name: str) -> bool:
    # A name on PATH is no proof: pyenv puts a stub there for each version that it knows.
    path = shutil.which(name)
    return path is not None and subprocess.run([path, "-c", ""], check=False).returncode == 0


OTHERS = find_other_pythons()
# If this is set, each of the hundreds of processes that the tests start compiles what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LONG_TESTS = [
    "tests/attacks",
    "tests/test_benchmarks.py",
    "tests/test_cli*",
    "tests/test_dockets_python2.py",
    "tests/test_examples.py",
    "tests/test_main_job.py",
    "tests/test_mutants.py",
    "tests/test_readme.py",
    "tests/test_soak.py",
    "tests/test_sqs*",
    "tests/test_worker_trouble.py",
]
"""Minutes of servers, processes and attacks: `quick` leaves them out."""

PYTHON_TESTS = [
    *(
        f"tests/test_{name}.py"
        for name in (
            # The event loop, tasks and cancellation.
            *(
                "batching",
                "cancellation",
                "completing",
                "leases",
                "keeper",
                "lifecycle",
                "loops",
            ),
            *("settling", "slots", "tasks", "watchdog", "worker", "worker_alone", "worker_groups"),
            *("worker_prefetch", "frozen_clock"),
            # Threads, forks, processes, signals and greenlets.
            *("fork", "gevent", "interrupts", "kinds", "local_jobs", "portal", "thread_link"),
            "worker_signals",
            # Pickles, signatures, annotations, names, tracebacks and garbage.
            *("arguments", "attempt", "classic", "cycles", "doors", "hostile_errors", "instance"),
            *("job", "json_serializer", "later", "names", "options", "pickle_claims", "pickling"),
            *("registry", "serialization", "wrong_api"),
            # The suite of queues.
            "memory",
        )
    ),
]
"""What a version of Python can change."""


ADAPTER_TESTS = [
    f"tests/test_{name}.py"
    for name in (
        *("debounce_redis", "dockets", "private", "redis_link", "thread_link"),
        *("sqs_errors", "sqs_loops", "sqs_settings"),
    )
]
"""What a version of redis-py, hiredis, aiobotocore or aiohttp can change."""


def install(session: nox.Session, *groups: str, extras: str = "redis,sqs") -> None:
    """Install the project and dependency groups, without asking for a recent pip."""
    session.install("-q", "-e", f".[{extras}]", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, under the Python that runs nox."""
    run_tests(session)


@nox.session
def quick(session: nox.Session) -> None:
    """Run the tests that need neither SQS nor the command line: most of them, in half the time."""
    run_tests(session, *(f"--ignore-glob={each}" for each in LONG_TESTS))


@nox.session
def full(session: nox.Session) -> None:
    """Run the tests at their full size: all examples, jobs and combinations of sides."""
    run_tests(session, env={"DEFERRABLE_TESTS": "full"})


@nox.session(name="tests-others", python=OTHERS or None)
def tests_others(session: nox.Session) -> None:
    """Run the tests that a Python can change, under every other one; `-- tests` runs all."""
    if not OTHERS:
        session.skip("there is no other Python from 3.11 on")
    run_tests(session, *[] if session.posargs else PYTHON_TESTS)


@nox.session(name="oldest-newest")
@nox.parametrize("age", ["oldest", "newest"])
def oldest_newest(session: nox.Session, age: str) -> None:
    """Run the adapters' tests with the oldest clients of brokers allowed, then with the newest."""
    install(session, "test")
    extras = PROJECT["project"]["optional-dependencies"]
    allowed = [*extras["redis"], *extras["sqs"], "aiobotocore[boto3]"]  # both on one botocore
    if age == "oldest":
        pinned = [each.replace(">=", "==") for each in allowed]
        session.install("-q", *pinned, "aiohttp==3.9.2; python_version < '3.13'")
    else:
        session.install("-q", "--upgrade", *allowed)
    # The oldest botocore calls what Python 3.12 deprecates.
    ignored = "ignore:datetime.datetime.utcnow:DeprecationWarning"
    run_pytest(session, "-W", ignored, *ADAPTER_TESTS)


SECOND_SQS_TESTS = [
    "tests/test_sqs.py",
    *(
        f"tests/test_sqs_{name}.py"
        for name in ("accounts", "fifo", "fifo_kills", "pointers", "retries")
    ),
]
"""What depends on a server: leases, settlement, delays, groups, receive counts and pointers."""

SECOND_SQS_CONFORMANCE = (
    "not test_sqs.py or "
    "(queue-blocking and (lease or touch or release or complete or delay or flush))"
)
"""The part of the conformance suite in which servers differ."""

SECOND_SQS_LEFT_OUT = {
    "tests/test_sqs_pointers.py::test_amazons_library_reads_our_message_and_deletes_its_object": (
        "Amazon's client takes the part of a handle after its last hyphen, and MiniStack's handles "
        "have hyphens"
    ),
}
"""Test -> why that server cannot pass it."""


@nox.session(name="second-sqs")
def second_sqs(session: nox.Session) -> None:
    """Run tests of SQS on another server than moto; `-- tests/test_sqs.py` runs the whole suite."""
    install(session, "test", "second-sqs")
    env = {"DEFERRABLE_TEST_SQS_ENDPOINT": "second"}
    left_out = [f"--deselect={test}" for test in SECOND_SQS_LEFT_OUT]
    tests = [] if session.posargs else [*SECOND_SQS_TESTS, "-k", SECOND_SQS_CONFORMANCE]
    run_pytest(session, *tests, *left_out, env=env)


LOCALSTACK = ("--exclude-newer", "2026-03-31", "localstack-core[runtime]==2026.3.0")
"""The last one without an account. It names no upper bounds, and fails with newer packages.
It needs Python 3.13, which it does not say."""


@nox.session(name="sqs-redrives")
def sqs_redrives(session: nox.Session) -> None:
    """Run the tests of redrives on LocalStack, which moves messages as the console does."""
    install(session, "test")
    session.install("-q", "uv>=0.5")
    server = Path(session.create_tmp()).resolve() / "server"
    session.run("uv", "venv", "-q", "--clear", "-p", "3.13", str(server))
    session.run("uv", "pip", "install", "-q", "-p", str(server), *LOCALSTACK)
    endpoint = f"localstack:{server / 'bin' / 'python'}"
    env = {"DEFERRABLE_TEST_SQS_ENDPOINT": endpoint}
    run_pytest(session, "tests/test_sqs_redrives.py", "-n", "1", env=env)


DJANGO_TESTS = [f"tests/test_django{name}.py" for name in ("", "_site", "_sqs", "_staff")]
"""What a version of Django can change."""


@nox.session(name="django", venv_backend="virtualenv")  # it asks pip for a source distribution
@nox.parametrize("version", ["5.2", "6.0", "6.1"])
def django_versions(session: nox.Session, version: str) -> None:
    """Run the tests of Django's tasks with a version of Django, and Django's own suite of them.

    Django 6 needs Python 3.12, and has its suite only in its source distribution.
    """
    if version != "5.2" and sys.version_info < (3, 12):
        session.skip("Django 6 needs Python 3.12 or later")
    install(session, "test", extras="redis,sqs,cli,dashboard")
    session.install("-q", f"django~={version}.0", "django-tasks>=0.12")
    run_pytest(session, *DJANGO_TESTS)
    if version == "5.2":
        return  # the package that has tasks there brings no tests
    folder = Path(session.create_tmp()).resolve() / f"django-{version}"
    shutil.rmtree(folder, ignore_errors=True)
    source = ("--no-deps", "--no-binary", ":all:", "-d", str(folder), f"django~={version}.0")
    session.run("python", "-m", "pip", "download", "-q", *source)
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    (tests,) = folder.glob("*/tests/tasks")
    session.run("python", str(ROOT / "tests" / "django_suite.py"), str(tests))


FRAMEWORK_TESTS = [f"tests/test_{name}.py" for name in ("frameworks", "frameworks_inside")]


@nox.session
@nox.parametrize("age", ["oldest", "newest"])
def frameworks(session: nox.Session, age: str) -> None:
    """Run the examples of web frameworks with the oldest versions allowed, then with the newest."""
    install(session, "test", extras="redis,cli,dashboard")
    extras = PROJECT["project"]["optional-dependencies"]
    allowed = [*extras["fastapi"], extras["flask"][-1], *extras["litestar"]]
    if age == "oldest":
        session.install("-q", *[each.replace(">=", "==") for each in allowed])
    else:
        session.install("-q", "--upgrade", *allowed)
    run_pytest(session, *FRAMEWORK_TESTS)


def run_tests(
    session: nox.Session, *arguments: str, env: Mapping[str, str | None] | None = None
) -> None:
    has_browser = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    install(session, "test", *(["browser"] if has_browser else []))
    run_pytest(session, *arguments, env=env)


def run_pytest(
    session: nox.Session, *arguments: str, env: Mapping[str, str | None] | None = None
) -> None:
    # Many tests wait for a process or a server, so more of them than cores can run at once.
    # tests/turns.py says which tests go to one worker, and which begin first.
    options = ("-n", PROCESSES, "--dist", "loadscope", *arguments)
    session.run("python", "-m", "pytest", *options, *session.posargs, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("-q", *nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, with both checkers."""
    install(session, "types", extras="all")
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site in `build/site/html`; a broken link is an error."""
    session.install("-q", "-e", ".", *nox.project.dependency_groups(PROJECT, "docs"))
    session.run("python", "docs/site/build.py")


@nox.session(venv_backend="virtualenv")  # it asks pip what is installed
def audit(session: nox.Session) -> None:
    """Ask a service whether a package that a user installs with us has a known weakness.

    Arguments after `--` can name the service; see CONTRIBUTING.md.
    """
    session.install("-q", ".[all]")
    frozen = session.run(
        "python", "-m", "pip", "freeze", "--exclude", PROJECT["project"]["name"], silent=True
    )
    requirements = Path(session.create_tmp()).resolve() / "requirements.txt"
    requirements.write_text(str(frozen))
    session.install("-q", *nox.project.dependency_groups(PROJECT, "audit"))
    # Strict: a package that could not be looked up is a failure.
    pinned = ("--strict", "--disable-pip", "--no-deps", "-r", str(requirements))
    session.run("pip-audit", *pinned, *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Show what the library does."""
    session.install("-q", ".")
    session.run("python", "examples/demo.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure deferrable and other libraries; see benchmarks/README.md."""
    install(session, "test")
    session.install("-q", "matplotlib>=3.9")
    session.run("python", "-m", "benchmarks.peers", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Attack it: cancel everywhere, the model, real processes, the suite's planted bugs."""
    install(session, "test")
    run_attack(session, "attacks.everything", *session.posargs)


@nox.session(name="model-check")
def model_check(session: nox.Session) -> None:
    """Check small models of the protocols in all their states, with spin and gcc."""
    session.run("python", "-m", "models.check", env={"PYTHONPATH": str(ROOT / "tests")})


@nox.session
def soak(session: nox.Session) -> None:
    """Run mixed load for an hour, and see whether anything grows."""
    install(session, "test")
    session.run("python", "benchmarks/soak.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Feed a million bad inputs to everything that is decoded."""
    install(session, "test")
    run_attack(session, "attacks.fuzz", *(session.posargs or ["--seed", "1"]))


def run_attack(session: nox.Session, module: str, *arguments: str) -> None:
    session.run("python", "-m", module, *arguments, env={"PYTHONPATH": str(ROOT / "tests")})


@nox.session
def release(session: nox.Session) -> None:
    """Build what is released, check it, and use it in empty environments with each extra."""
    session.install("-q", *nox.project.dependency_groups(PROJECT, "release"))
    built = Path(session.create_tmp()).resolve() / "built"
    shutil.rmtree(built, ignore_errors=True)
    session.run("python", "tests/release.py", str(built))
