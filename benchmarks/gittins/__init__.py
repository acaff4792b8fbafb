"""What Gittins is to reach before it becomes the default, measured.

Workloads, loads and policies stand in ``plan``, bounds in ``bounds``; runs, results and
resuming are those of ``autellix bench``. ``python -m benchmarks.gittins --help``.
"""
