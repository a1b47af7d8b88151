"""Commands that measure. None of them is a test; figures and machines stand in bench/RESULTS.md."""
