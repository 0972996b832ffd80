"""The original checkpoint of GenS on Aria, turned into transformers' own layout."""
