"""Measurements against peers in one run.

`python -m benchmarks.train`, `.generate`, `.corpus` and `.quality` each write a JSON file to
benchmarks/results/, from which `python -m benchmarks.results` makes RESULTS.md. Peers come with
`pip install -e '.[benchmarks]'`.
"""
