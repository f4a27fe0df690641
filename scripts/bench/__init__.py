"""What the benchmarks share: their command lines, and processes that answer in lines."""
