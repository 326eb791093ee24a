"""File and folder names inside a results folder."""

from __future__ import annotations

import re

LEDGER, LEDGER_LOCK = "ledger.jsonl", "ledger.lock"
OWN_LEDGER = "ledger.own.jsonl"  # what a run wrote, where another program has replaced its ledger by something else
CALIBRATION = "calibration.json"  # in the folder of a calibration, which holds the results folders of its settings
REFERENCE = "reference"  # among these the folder of its reference setting
TENSORBOARD, WANDB = "tensorboard", "wandb"  # what these loggers write
IMAGE_FOLDER = "images"  # decoded images, where the user's cache cannot be written
CHECKPOINTS = "checkpoints"
LAST_CHECKPOINT = "last.pt"  # in the folder of a trial
TRIAL_FOLDER = re.compile(r"\w+")  # a valid name of such a folder: no path that leaves `checkpoints`
