"""GenS on Aria: the original checkpoint, converted once and run by transformers' own Aria.

``source``, ``config``, ``mapping`` and ``convert`` turn the published files (model type ``yi_vl``)
into ones that transformers loads without any code from the checkpoint; they need numpy alone
(torch for old ``.bin`` files). ``load`` opens the result, ``scorer`` runs it.
"""
