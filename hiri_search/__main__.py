"""`python -m hiri_search`: the command line, as `hiri-search`."""

from hiri_search.cli.main import main

if __name__ == "__main__":
    main()
