"""The approximate index: vectors as short codes, in segments that are scanned before vectors are compared."""
