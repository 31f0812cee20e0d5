"""All-pairs attention over a batch of small graphs: ``python -m gattn.bench.ragged --json OUT``."""
