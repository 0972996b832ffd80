"""Prefill and decoding over the modules of a transformers model, for many questions at once.

* :mod:`~hybrid.gens.loop.stack`: the layers of the text model as plain functions.
* :mod:`~hybrid.gens.loop.attention`: attention in parts that are merged by their log-sum-exp, so
  that a prefix that several rows share is read once.
* :mod:`~hybrid.gens.loop.prefixes`: keys and values of whole windows, kept under a budget.
* :mod:`~hybrid.gens.loop.rows`: the rows that are being decoded, with their own keys and values.
* :mod:`~hybrid.gens.loop.choose`: which token comes next, freely or within a grammar.
* :mod:`~hybrid.gens.loop.runner`: takes requests, keeps the rows busy, hands replies out.
* :mod:`~hybrid.gens.loop.split_kv`, :mod:`~hybrid.gens.loop.graphs`: the same step on CUDA.
"""
