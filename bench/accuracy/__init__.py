"""Does a selection of frames show what a question is about, and does it help to answer it?"""
