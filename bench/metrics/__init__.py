"""What makes a selection of frames good, one measure a file, and how certain the number is.

The measures take plain arrays: times of the selected frames in seconds, and the evidence as moments
(float64 [M]) or spans (float64 [M, 2]) in seconds. They know nothing of data sets, models or files.
"""
