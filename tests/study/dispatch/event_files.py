"""Reading TensorBoard's event files, by the records and the messages that tensorboardX writes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

EVENT_FILES = "events.out.tfevents.*"
Scalars = dict[str, list[tuple[int, float]]]  # steps and values by tag
_LENGTH, _CHECKSUM = struct.Struct("<Q"), 4  # of a record, in bytes: its length, a checksum, its content, a checksum


def scalars(run: Path) -> Scalars:
    """Return the scalars of a run in the order in which TensorBoard reads them."""
    read: Scalars = {}
    for event, value in _values(run):
        if value.WhichOneof("value") == "simple_value" and not value.tag.startswith("_hparams_"):
            read.setdefault(value.tag, []).append((event.step, value.simple_value))
    return read


def hparams(run: Path) -> dict[str, Any]:
    """Return the hyperparameters of a run."""
    read: dict[str, Any] = {}
    for _, value in _values(run):
        content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for name, param in content.session_start_info.hparams.items():
            read[name] = getattr(param, param.WhichOneof("kind"))
    return read


def _values(run: Path) -> Iterator[tuple[Any, Any]]:
    for file in sorted(run.glob(EVENT_FILES)):
        for record in _records(file.read_bytes()):
            event = Event.FromString(record)
            yield from ((event, value) for value in event.summary.value)


def _records(content: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        (length,) = _LENGTH.unpack_from(content, start)
        start += _LENGTH.size + _CHECKSUM
        yield content[start : start + length]
        start += length + _CHECKSUM
