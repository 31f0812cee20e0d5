"""Measuring code: graphs, peers, limits and the method, installed as ``gattn.bench``.

``gattn bench`` is the command line (:mod:`gattn.bench.cli`), ``docs/benchmarks.md`` the method in words.
Nothing here is imported by ``import gattn``.
"""
