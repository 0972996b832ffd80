"""The answers of a whole run in the forms that benchmarks read."""
