"""Comparisons with other implementations, and the generated tables of the documentation.

`python -m benchmarks.train`, `.overhead`, `.growth`, `.generate`, `.corpus` and `.quality` each
write a JSON file to benchmarks/results/, from which `python -m benchmarks.results` makes RESULTS.md
and `python -m benchmarks.docs` the tables of README.md and docs/. PyTorch, one of
the peers, is installed by `pip install -e '.[benchmarks]'`.
"""
