"""The benchmarks, one file each: `mbpp.py` is the benchmark `mbpp`, and its `load_mbpp` returns the problems."""
