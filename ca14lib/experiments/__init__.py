"""The comparisons of every section, as notebooks and the command line run them, and their result tables."""

from ca14lib.experiments.results import is_stale, read_metadata, read_results, results_folder, write_results

__all__ = ["is_stale", "read_metadata", "read_results", "results_folder", "write_results"]
