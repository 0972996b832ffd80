"""From a question's vector to the window of frames that the fine stage reads."""
