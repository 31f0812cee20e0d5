"""``gattn check``: ops and backends against the fp64 reference, on random cases.

A score joins with one :class:`~gattn.check.registry.Op`, an optional argument of every op with one
:class:`~gattn.check.registry.Modifier`.
"""
