"""The library, its documents, tests and benchmarks are written in plain English.

Owns the short list of words and phrases that they must not use, because readers whose first
language is not English stop at them. A word of one part is also searched in names,
such as ``start_anew``.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = [ROOT / name for name in ("benchmarks", "deferrable", "docs", "examples", "tests")]
TEXTS = [
    *(path for kind in ("*.md", "*.toml", "noxfile.py") for path in ROOT.glob(kind)),
    *(path for folder in FOLDERS for kind in ("*.md", "*.py") for path in folder.rglob(kind)),
]

INSTEAD = {
    r"may not know": "what the module owns; a rule only if code could break it",
    r"whoever": "the caller, the reader, a consumer, ...",
    r"anew": "again",
    r"of (its|their) own(?=[.,;:)]|\s+(and|or|in|for|that|to|which|when|if)\b)": "its own ...",
    r"besides": "also",
    r"mend(s|ed|ing)|to mend": "fix",
    r"heed(s|ed|ing)?": "obey, react to",
    r"farewell": "unregister",
    r"for who(?! in\b)": "for callers that ...",
    r"(told|tells?|telling) of": "report, show",
    r"(is|are|to be|cannot be) had": "get, find",
    r"in vain": "without success",
    r"bec(omes?|ame) of": "happens to",
    r"befalls?|burnt|forebears?|lest|reckon(s|ed|ing)?|thereof": "a common word",
    r"(came|come) to nothing": "failed, was lost",
    r"(blocking|awaiting|asyncio|either|both|same) faces?|face that (awaits|blocks)": "API",
}


def test_no_text_uses_a_phrase_that_is_hard_to_read() -> None:
    found = []
    for path in set(TEXTS) - {Path(__file__)}:
        text = path.read_text(encoding="utf-8")
        for phrase, instead in INSTEAD.items():
            pattern = rf"(?<![a-z])({phrase})(?![a-z])".replace(" ", r"\s+(?:#\s+)?")
            for match in re.finditer(pattern, text, re.IGNORECASE):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(ROOT)}:{line}: {match.group()!r}: {instead}")

    assert TEXTS
    assert not found, "write in plain English:\n" + "\n".join(sorted(found))
