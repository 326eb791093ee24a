"""File and folder names inside a results folder."""

from __future__ import annotations

import re

LEDGER, LOCK = "ledger.jsonl", "ledger.lock"


LAST = "last.pt"


NAME = re.compile(r"\w+")  # of the folder of a training: nothing that leads out of the others' company


CHECKPOINTS = "checkpoints"
