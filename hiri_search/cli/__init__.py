import sys

if sys.platform == "win32":  # before any import that Windows has no module for
    sys.exit("error: hiri_search needs Linux or macOS: its locks and process groups are POSIX; use it in WSL 2")
