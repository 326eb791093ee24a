"""`python run_study.py STUDY`: the same as `hiri-search run STUDY`."""

import sys

from hiri_search.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
