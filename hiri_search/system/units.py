"""Unit factors for counts, bytes and times; usual values and limits of settings."""

KIB, MIB, GIB = 2**10, 2**20, 2**30  # bytes
MEGA, GIGA = 1e6, 1e9
MINUTE, HOUR = 60, 3600  # seconds

MAX_INTEGER = 2**63 - 1  # the largest integer that a table keeps
PAPER_SIDE = 448  # pixels; input side of Tables 2 and 9
MAX_SIDE = 8192  # of a square input, in pixels
MAX_CLASSES = 100_000
