"""The options of each verb, declared once: one frozen dataclass a verb, one field an option.

A field holds the parsed value, and says what its reader, the command line and a typed call need: help, unit, legal
values, flag, and what it needs beside it to decide anything. From the fields are made:

* the command line (:mod:`hybrid.cli.from_fields`);
* the types of the same keywords in a Python call (:mod:`hybrid.options.keywords`, written by
  ``python -m hybrid.options.write_keywords``);
* the text of ``help(AskOptions)``.

So a new option is one field. This room knows the shared values and the registries of selectors and scorers, and
nothing of the engine.
"""
