"""The SQL of each step.

Owns the texts. States are written as numbers: 1 is available, 2 delayed, 3 held. Each statement
on a queue follows the one index (queue, state, at, id).
"""

from typing import Final

__all__ = [
    "ADD",
    "ADD_UNIQUE",
    "CHANGE_WINDOW",
    "COUNTS",
    "DROP",
    "DROP_PAUSE",
    "DROP_WINDOW",
    "FIND",
    "FLUSH",
    "FREE_KEY",
    "FRONT",
    "HOLDS",
    "HOLD_FRONT",
    "HOLD_ROW",
    "IS_FREE",
    "KEEP_PAUSE",
    "KEEP_WINDOW",
    "KEY_HOLDER",
    "KEY_OF",
    "LATE",
    "LOOK",
    "MISS",
    "NEW_QUEUE",
    "NEXT",
    "PAGE",
    "PAGE_END",
    "PAUSE",
    "PUT",
    "QUEUE_ID",
    "REMOVE",
    "REWRITE",
    "SWEEP",
    "TEXT",
    "TOUCH",
    "TO_BACK",
    "WINDOW",
]

QUEUE_ID: Final = "SELECT id FROM deferrable_queues WHERE name = ?"
NEW_QUEUE: Final = "INSERT INTO deferrable_queues (name) VALUES (?)"

ADD: Final = """
INSERT INTO deferrable_items (queue, state, at, token, redeliveries, pushed, text)
VALUES (?, ?, ?, 0, 0, ?, ?)
"""
ADD_UNIQUE: Final = """
INSERT INTO deferrable_items (queue, state, at, token, redeliveries, pushed, text, unique_key)
VALUES (?, ?, ?, 0, 0, ?, ?, ?)
"""
FRONT: Final = """
SELECT id, redeliveries, text FROM deferrable_items
WHERE queue = ? AND state = 1 AND at = 0 AND NOT EXISTS (
    SELECT 1 FROM deferrable_pauses WHERE queue = ? AND (until_time IS NULL OR until_time > ?)
) ORDER BY id LIMIT ?
"""
HOLD_FRONT: Final = """
UPDATE deferrable_items SET state = 3, stop = 0, at = ?, token = ?
WHERE queue = ? AND state = 1 AND at = 0 AND id <= ?
"""
IS_FREE: Final = """
SELECT redeliveries, text FROM deferrable_items
WHERE id = ? AND queue = ? AND state = 1 AND pushed = ?
"""
HOLD_ROW: Final = "UPDATE deferrable_items SET state = 3, stop = 0, at = ?, token = ? WHERE id = ?"

# What happens by itself, and to the row of a delivery that is known to be held.
LATE: Final = """
SELECT id, at, redeliveries FROM deferrable_items
WHERE queue = ? AND state = ? AND at <= ? ORDER BY at, id LIMIT ?
"""
TO_BACK: Final = """
UPDATE deferrable_items
SET id = (SELECT max(id) + 1 FROM deferrable_items), state = 1, at = 0, token = 0, stop = 0
WHERE id = ?
"""
MISS: Final = """
UPDATE deferrable_items SET redeliveries = redeliveries + 1 WHERE id = ?
"""
DROP: Final = "DELETE FROM deferrable_items WHERE id = ?"
TEXT: Final = "SELECT text FROM deferrable_items WHERE id = ?"
REWRITE: Final = "UPDATE deferrable_items SET text = ? WHERE id = ?"
PUT: Final = "UPDATE deferrable_items SET state = ?, at = ?, token = 0 WHERE id = ?"

# Of a holder. Each names row and token, and that the lease has not ended.
HOLDS: Final = """
SELECT redeliveries FROM deferrable_items WHERE id = ? AND token = ? AND state = 3 AND at > ?
"""
TOUCH: Final = """
UPDATE deferrable_items SET at = max(at, ?) WHERE id = ? AND token = ? AND state = 3 AND at > ?
"""
REMOVE: Final = "DELETE FROM deferrable_items WHERE id = ? AND token = ? AND state = 3 AND at > ?"

# Unique keys.
KEY_HOLDER: Final = "SELECT text FROM deferrable_items WHERE queue = ? AND unique_key = ?"
KEY_OF: Final = "SELECT unique_key FROM deferrable_items WHERE id = ?"
FREE_KEY: Final = """
UPDATE deferrable_items SET unique_key = NULL WHERE id = ? AND token = ? AND state = 3 AND at > ?
"""

# Looking.
LOOK: Final = """
SELECT EXISTS (SELECT 1 FROM deferrable_items WHERE queue = ? AND state = 1),
EXISTS (
    SELECT 1 FROM deferrable_pauses WHERE queue = ? AND (until_time IS NULL OR until_time > ?)
)
"""
PAUSE: Final = "SELECT since_time, until_time, reason FROM deferrable_pauses WHERE queue = ?"
KEEP_PAUSE: Final = "INSERT OR REPLACE INTO deferrable_pauses VALUES (?, ?, ?, ?)"
DROP_PAUSE: Final = "DELETE FROM deferrable_pauses WHERE queue = ?"
KEEP_WORKER: Final = "INSERT OR REPLACE INTO deferrable_workers VALUES (?, ?, ?, ?)"
DROP_WORKER: Final = "DELETE FROM deferrable_workers WHERE queue = ? AND id = ?"
DROP_OLD_WORKERS: Final = "DELETE FROM deferrable_workers WHERE queue = ? AND seen_time <= ?"
WORKERS: Final = """
SELECT id, seen_time, text FROM deferrable_workers WHERE queue = ? AND seen_time > ?
"""
NEXT: Final = "SELECT min(at) FROM deferrable_items WHERE queue = ? AND state = ?"
COUNTS: Final = """
SELECT state, at <= CASE state WHEN 3 THEN ? ELSE ? END AS is_late, count(*)
FROM deferrable_items WHERE queue = ? GROUP BY state, is_late
"""
FIND: Final = """
SELECT pushed FROM deferrable_items WHERE queue = ? AND state = ? AND at <= ?
ORDER BY at, id LIMIT 1
"""
PAGE_END: Final = "SELECT id FROM deferrable_items WHERE id >= ? ORDER BY id LIMIT 1 OFFSET ?"
PAGE: Final = """
SELECT id, pushed, text FROM deferrable_items
WHERE id >= ? AND id < ? AND +queue = ? ORDER BY id LIMIT ?
"""
FLUSH: Final = "DELETE FROM deferrable_items WHERE queue = ?"

# Debounce windows.
WINDOW: Final = """
SELECT available_time, token, reserved_until, previous_time, item_id FROM deferrable_windows
WHERE key = ? AND end_time >= ?
"""
KEEP_WINDOW: Final = """
INSERT OR REPLACE INTO deferrable_windows
(available_time, token, reserved_until, previous_time, item_id, end_time, key)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
CHANGE_WINDOW: Final = """
UPDATE deferrable_windows
SET available_time = ?, token = ?, reserved_until = ?, previous_time = ?, item_id = ?
WHERE key = ?
"""
DROP_WINDOW: Final = "DELETE FROM deferrable_windows WHERE key = ?"
SWEEP: Final = """
DELETE FROM deferrable_windows WHERE key IN
(SELECT key FROM deferrable_windows WHERE end_time < ? ORDER BY end_time LIMIT ?)
"""
