"""The verbs of the command line, one a file; :mod:`hybrid.cli.registry` lists them."""
