"""hiri_search."""
