"""Receipts: their users see frozen dataclasses, however they are made."""

import copy
import dataclasses
import pickle

import pytest

from deferrable import Receipt


def test_receipt_cannot_be_changed() -> None:
    receipt = Receipt("1", "pushed", 2.5)

    with pytest.raises(dataclasses.FrozenInstanceError):
        receipt.id = "2"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        receipt.other = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_receipt_is_made_by_place_and_by_name() -> None:
    by_name = Receipt(id=None, status="skipped", available_time=2.5)

    assert by_name == Receipt(None, "skipped", 2.5)
    assert by_name != Receipt(None, "delayed", 2.5)
    assert hash(by_name) == hash(Receipt(None, "skipped", 2.5))
    assert repr(by_name) == "Receipt(id=None, status='skipped', available_time=2.5, serves_id=None)"


def test_receipt_can_be_copied_changed_and_sent_as_any_dataclass() -> None:
    receipt = Receipt("1", "pushed", 2.5)

    assert pickle.loads(pickle.dumps(receipt)) == copy.deepcopy(receipt) == receipt
    assert dataclasses.replace(receipt, status="delayed") == Receipt("1", "delayed", 2.5)
    assert dataclasses.asdict(receipt) == {
        "id": "1",
        "status": "pushed",
        "available_time": 2.5,
        "serves_id": None,
    }
