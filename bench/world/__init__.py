"""A small world of coloured shapes: videos, questions and exact truth, made from seeds.

The bundled ``tiny`` models are trained on it (``training``) and measured on it
(``bench.accuracy.world``). Nothing here is downloaded.
"""
