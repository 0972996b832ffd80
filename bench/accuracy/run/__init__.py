"""A run of methods over the questions of a data set: options, methods, measures, record and report."""
