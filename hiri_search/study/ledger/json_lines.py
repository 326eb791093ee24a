"""Ledger events as lines of JSON, and back."""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from hiri_search.study.ledger.events import AnyEvent, Event
from hiri_search.system.text import storable


class InvalidLine(ValueError):
    """A line that is no event."""


@cache
def _adapter() -> TypeAdapter[AnyEvent]:
    return TypeAdapter(Annotated[AnyEvent, Field(discriminator="event")])


def read_line(line: bytes) -> AnyEvent:
    """Return the event of a line. InvalidLine says what is wrong with it."""
    try:
        return _adapter().validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidLine(f"{place}: {first['msg']}" if place else first["msg"]) from error


def write_line(event: Event) -> bytes:
    """Return the line of an event, without its end; a text that JSON cannot hold is made `storable`.

    ValueError where a number is not finite, or where `read_line` would refuse the line: it stays out of the ledger.
    """
    plain = _adapter().dump_python(event, mode="json", exclude_defaults=True)  # type: ignore[arg-type]
    line = json.dumps(storable({"event": event.event, **plain}), allow_nan=False).encode()
    read_line(line)
    return line
