"""File and folder names inside a results folder."""

from __future__ import annotations

import re

LEDGER, LEDGER_LOCK = "ledger.jsonl", "ledger.lock"


LAST_CHECKPOINT = "last.pt"


TRIAL_FOLDER = re.compile(r"\w+")  # of the folder of a training: nothing that leads out of the others' company


CHECKPOINTS = "checkpoints"
