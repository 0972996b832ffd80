"""Prefill and decoding over the modules of a transformers model, for many questions at once.

* :mod:`~hybrid.fine.decoding.decoder_layers`: the layers of the text model as plain functions.
* :mod:`~hybrid.fine.decoding.attention`: attention in parts that are merged by their log-sum-exp, so that a prefix
  that several rows share is read once.
* :mod:`~hybrid.fine.decoding.prefix_cache`: keys and values of whole windows, cached within a budget.
* :mod:`~hybrid.fine.decoding.rows`: the rows that are being decoded, with their own keys and values.
* :mod:`~hybrid.fine.decoding.sampling`, :mod:`~hybrid.fine.decoding.grammar`: which token comes next, freely or
  within a form.
* :mod:`~hybrid.fine.decoding.scheduler`: takes prompts of any number of callers, fills the rows, yields events.
* :mod:`~hybrid.fine.decoding.shared_prefix_attention`, :mod:`~hybrid.fine.decoding.cuda_graphs`,
  :mod:`~hybrid.fine.decoding.fused_kernels`: the same step on CUDA.
"""
