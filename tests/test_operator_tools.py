"""The page about operator tools, held to what it says: its transcripts run in their order."""

import re
import shlex
from pathlib import Path

from commands import environment
from processes import DEADLINE_SECONDS, ROOT
from warm_python import run_python

PAGE = (ROOT / "docs/operator-tools.md").read_text()
CHANGING = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r"\(\d+ (?:ms|s|min) ago\)|\((\d+ s) ago\)", "(AGO)"),
    (r"after \d+(?:\.\d+)? m?s:", "after N ms:"),
    (r"\) on \S+", ") on HOST"),
    (r'File "[^"]*/shop\.py"', 'File "shop.py"'),
    (r" +$", ""),
]


def without_what_changes(text: str) -> str:
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text


def test_transcripts_show_what_the_commands_print(tmp_path: Path) -> None:
    source = re.findall(r"^```python\n# shop.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "shop.py").write_text(f"# shop.py\n{source}")
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    variables = {"DEFERRABLE_APP": "shop:shop", "PYTHONIOENCODING": "utf-8", "TZ": "UTC"}
    for block in blocks:
        parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
        for command, shown in zip(parts[1::2], parts[2::2], strict=True):
            program, *arguments = shlex.split(command)
            module = ["-m", "deferrable"] if program == "deferrable" else []
            done = run_python(
                [*module, *arguments],
                cwd=tmp_path,
                env=environment(variables),
                encoding="utf-8",
                timeout=DEADLINE_SECONDS,
            )
            said = done.stdout if module and done.stdout else done.stderr if module else ""

            assert without_what_changes(said) == without_what_changes(shown), command
