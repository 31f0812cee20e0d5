"""The papers' experiments, one command each: ``gattn study NAME``."""
