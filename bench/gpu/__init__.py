"""``python -m gattn.bench.gpu``: what holds on this machine's GPU, and how fast it is, in under ten minutes.

A step is a file of this package with a list of tasks; a task's result is kept the moment it is there, so that a run
that was interrupted, or ran out of its time, goes on where it stopped. Checks come before speeds, and a kernel whose
numbers are wrong gets no speed. ``--dry-run`` does what can be done without a GPU.
"""
