"""GenS on Aria: the original checkpoint, converted once and run by transformers' own Aria.

``convert`` turns the published files (model type ``yi_vl``) into ones that transformers loads without any code from
the checkpoint; it needs numpy alone (torch for old ``.bin`` files). ``load`` opens the result and scores with it.
"""
