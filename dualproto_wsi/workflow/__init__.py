"""One job, one function: runs, isolates, records."""
