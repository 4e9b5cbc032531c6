"""The schema that editors complete devsup.toml by."""

import json
from typing import Any

import pytest

from configs import EXAMPLE, ROOT
from devsup.config import Check, Log, Probe, Service
from devsup.config.schema import schema

PUBLISHED = ROOT / "docs" / "devsup.schema.json"
# What has no default: one of them is given, or it is nothing.
WITHOUT = set(
    "command target python editor http ws tcp sse path log never status field equals grows_within within ready_within max_memory "
    "body json pattern redirect receive mean median p95 max".split()
)


def test_the_published_one_is_up_to_date() -> None:
    """To renew it: devsup config --schema > docs/devsup.schema.json."""
    assert json.loads(PUBLISHED.read_text("utf-8")) == json.loads(json.dumps(schema()))


def test_the_example_names_it() -> None:
    first = EXAMPLE.read_text("utf-8").partition("\n")[0]
    assert first.startswith("#:schema ")
    assert EXAMPLE.parent / first.removeprefix("#:schema ") == PUBLISHED


@pytest.mark.parametrize("kind", [Service, Probe, Check, Log])
def test_every_key_has_its_meaning_and_its_default(kind: type[Any]) -> None:
    keys = schema()["definitions"][kind.__name__]["properties"]
    assert list(keys) == list(kind.__struct_fields__)
    assert all(key["description"].endswith(".") for key in keys.values())
    assert {name for name, key in keys.items() if "default" not in key} <= WITHOUT
    plain = json.dumps(keys)
    assert "null" not in plain
    assert "also" not in plain


def test_what_may_be_written_in_two_ways_is_two_alternatives() -> None:
    keys = schema()["definitions"]["Service"]["properties"]
    assert [each["type"] for each in keys["command"]["anyOf"]] == ["string", "array"]
    assert [each["type"] for each in keys["port"]["anyOf"]] == ["integer", "array"]
    assert [each["type"] for each in keys["hold"]["anyOf"]] == ["string", "number"]
    assert keys["reload"]["enum"] == ["drain", "handover", "off", "restart"]


def test_keys_that_there_are_not_are_wrong() -> None:
    found = schema()
    assert [each["additionalProperties"] for each in (found, *found["definitions"].values())] == [False] * 5
