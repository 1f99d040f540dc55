"""A lease: taken, touched, kept, and lost.

Owns which stories the picture shows, and how it looks. When an item is touched, for how long, and
when its lease is over is decided by `deferrable.aio._engine.rounds`, and shown for its constants.
"""

from dataclasses import dataclass, field

from deferrable.aio._engine.rounds import LEAD, pause_seconds, plan_round
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.aio.envelope import Envelope
from pictures.svg import COLOURS, MARGIN, box, circle, path, svg, text, text_width
from pictures.timeline import Scale, axis, short

__all__ = ["draw_lease"]

WIDTH = 860
LEFT, RIGHT = 120, WIDTH - 40
END = 80
LEASE_SECONDS = InMemoryBackendFactory().create_backend_for_group(None).queue.lease_seconds
ROW = 34


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which something does not work: it begins, ends, and has a name."""

    start: float
    end: float
    name: str


@dataclass(slots=True)
class Holding:
    """What one consumer did with an item."""

    start: float
    touches: list[float] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)
    lease_end: float = 0.0
    lost: float | None = None
    job_end: float = 0.0


@dataclass(frozen=True, slots=True)
class Story:
    """One panel.

    Attributes:
        job_seconds: how long the job runs.
        stopped: the consumer does nothing in this time.
        away: the broker cannot be reached in this time.
    """

    title: str
    says: str
    job_seconds: float
    max_lease_seconds: float | None = None
    stopped: Span | None = None
    away: Span | None = None


STORIES = (
    Story(
        "the keeper renews the lease while the job runs",
        "completed at {job_end} s; the lease ends with it",
        46,
    ),
    Story(
        "the first consumer stops, for example with its machine",
        "at {lost} s it notices that its lease ended, stops the job, and settles nothing",
        70,
        stopped=Span(14, 62, "stopped"),
    ),
    Story(
        "the broker cannot be reached for a while",
        "touches that fail are repeated sooner and sooner; the lease is not lost before its end",
        66,
        away=Span(25, 46, "broker away"),
    ),
    Story(
        "the job hangs, with max_lease_seconds=45",
        "from 45 s after the pop on, nothing is renewed, so that another consumer gets the item",
        END,
        max_lease_seconds=45,
    ),
)


def held(story: Story, start: float, *, is_first: bool) -> Holding:
    """Let the keeper's own decisions act on one item."""
    lease = LEASE_SECONDS
    envelope = Envelope(None, start, start + lease)
    holding = Holding(start, job_end=min(start + story.job_seconds, END))
    due = envelope.lease_end_time - lease * LEAD
    stopped = story.stopped if is_first else None
    while True:
        now = min(due, envelope.lease_end_time)
        if stopped is not None and stopped.start <= now < stopped.end:
            now = stopped.end
        if now >= holding.job_end:
            holding.lease_end = holding.job_end
            return holding
        round_ = plan_round([envelope], now, lease, story.max_lease_seconds)
        if round_.ended:
            holding.lease_end, holding.lost = envelope.lease_end_time, now
            holding.job_end = min(now, holding.job_end)
            return holding
        if round_.run_out:
            due = envelope.lease_end_time
            continue
        (seconds,) = round_.touches
        if story.away is not None and story.away.start <= now < story.away.end:
            holding.failed.append(now)
        else:
            holding.touches.append(now)
            envelope.lease_end_time = max(envelope.lease_end_time, now + seconds)
        due = now + pause_seconds(envelope, now, lease)


def draw_lease() -> str:
    parts = legend(MARGIN + 12)
    top = float(MARGIN + 30)
    for story in STORIES:
        drawn, height = draw_story(story, top)
        parts += drawn
        top += height + 12
    return svg(WIDTH, top - 12 + MARGIN, parts, COLOURS)


def legend(y: float) -> list[str]:
    x, parts = float(MARGIN + 8), []
    words = ("job", "lease", "touch", "touch that fails", "lease is lost")
    styles = ("violet-fill", "green-fill shade", "green-fill", "line red-line", "red-fill")
    for word, style in zip(words, styles, strict=True):
        mark = circle(x, y - 4, style)
        if word == "job":
            mark = box(x - 8, y - 7, 16, 6, style)
        elif word == "lease":
            mark = box(x - 8, y - 11, 16, 14, style)
        parts += [mark, text(x + 14, y, word, "faint")]
        x += text_width(word) + 46
    return parts


def draw_story(story: Story, top: float) -> tuple[list[str], float]:
    scale = Scale(LEFT, RIGHT, END)
    holdings = [held(story, 0, is_first=True)]
    if holdings[0].lost is not None:
        holdings.append(held(story, holdings[0].lease_end, is_first=False))
    height = 112 + ROW * len(holdings)
    parts = [box(MARGIN, top, WIDTH - 2 * MARGIN, height, "band")]
    parts.append(text(MARGIN + 12, top + 22, story.title, "name"))
    for span in (story.stopped, story.away):
        if span is not None:
            x, width = scale.x(span.start), scale.x(span.end) - scale.x(span.start)
            parts.append(box(x, top + 32, width, 18, "red-fill shade"))
            parts.append(text(x + 6, top + 45, span.name, "faint"))
    y = top + 52 + ROW / 2
    for number, holding in enumerate(holdings):
        parts.append(text(MARGIN + 12, y + 5, f"consumer {number + 1}"))
        parts += draw_holding(scale, holding, y, None if number else story.stopped)
        y += ROW
    parts += axis(scale, y - 6, [10 * number for number in range(END // 10 + 1)])
    first = holdings[0]
    lost = "" if first.lost is None else short(first.lost)
    says = story.says.format(job_end=short(first.job_end), lost=lost)
    parts.append(text(MARGIN + 12, top + height - 14, says, "faint"))
    return parts, height


def draw_holding(scale: Scale, holding: Holding, y: float, stopped: Span | None) -> list[str]:
    def x(moment: float) -> float:
        return scale.x(min(moment, END))

    start, end = x(holding.start), x(holding.lease_end)
    parts = [box(start, y - 11, end - start, 22, "green-fill shade")]
    job_end = x(holding.job_end if stopped is None else stopped.start)
    parts.append(box(start, y - 3, job_end - start, 6, "violet-fill"))
    parts.append(path(f"M{start:.1f} {y - 11}v22", "line green-line"))
    parts += [circle(x(each), y, "green-fill", 6) for each in holding.touches]
    parts += [circle(x(each), y, "line red-line", 6) for each in holding.failed]
    if holding.lost is not None and holding.lost <= END:
        parts.append(circle(x(holding.lost), y, "red-fill", 6))
    return parts
