"""Unit factors for counts, bytes and times."""

KIB, MIB, GIB = 2**10, 2**20, 2**30  # bytes
MEGA, GIGA = 1e6, 1e9
MINUTE, HOUR = 60, 3600  # seconds
