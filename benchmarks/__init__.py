"""Measurements against peers, and what writes them and the generated tables into the documents.

`python -m benchmarks.train`, `.overhead`, `.growth`, `.generate`, `.corpus` and `.quality` each
write a JSON file to benchmarks/results/, from which `python -m benchmarks.results` makes RESULTS.md
and `python -m benchmarks.docs` the tables of README.md and docs/. Peers come with
`pip install -e '.[benchmarks]'`.
"""
