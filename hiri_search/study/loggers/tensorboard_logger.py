"""Runs of TensorBoard: one file of events for each trial, whose bytes follow from the ledger."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from hiri_search.study.loggers.run_record import RunRecord
from hiri_search.system.files import atomic_write

_VERSION = "brain.Event:2"  # of the format of the file
_ENDED = {"finished": "STATUS_SUCCESS", "stopped": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}


class TensorboardLogger:
    """Writes `events.out.tfevents.*` files that TensorBoard shows: curve, hyperparameters, and texts about the trial.

    A file that holds the beginning of a run is continued, also behind a torn end; any other content is replaced.
    """

    label = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        """`folder` is what `tensorboard --logdir` takes."""
        self.destination = str(folder)
        self._folder = folder

    def write(self, run: RunRecord) -> None:
        """Bring the file of a run up to date. OSError where it cannot be written."""
        path = self._folder / run.folder_name / f"events.out.tfevents.{int(run.began)}.hiri_search"
        there, content = path.read_bytes() if path.exists() else b"", _content(run)
        if not content.startswith(there):
            with atomic_write(path) as file:
                file.write(content)
        elif more := content[len(there) :]:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(more)

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _content(run: RunRecord) -> bytes:
    """Return the bytes of the file of a run."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    for record in _records(run):
        RecordWriter(buffer).write(record)
    return buffer.getvalue()


def _records(run: RunRecord) -> Iterator[bytes]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
    from tensorboard.plugins.text.summary_v2 import text_pb

    def record(summary: Summary, step: int = 0, time: float = run.began) -> bytes:
        content: bytes = Event(wall_time=time, step=step, summary=summary).SerializeToString(deterministic=True)
        return content

    yield Event(wall_time=run.began, file_version=_VERSION).SerializeToString()
    yield record(summary_v2.hparams_pb(run.parameters, trial_id=run.id, start_time_secs=run.began))
    yield record(text_pb("trial", f"{run.name}, of {run.title or run.study}"))
    for point in run.curve:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in point.values.items()]
        yield record(Summary(value=values), point.step, point.time)
    if status := _ENDED.get(run.trial.state):
        end = plugin_data_pb2.SessionEndInfo(status=getattr(api_pb2, status), end_time_secs=run.changed)
        plugin = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
        ended = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=plugin, tensor=metadata.NULL_TENSOR)
        last, reason = len(run.trial.curve), run.trial.reason
        yield record(Summary(value=[ended]), last, run.changed)
        yield record(text_pb("state", f"{run.trial.state}: {reason}" if reason else run.trial.state), last, run.changed)
