"""From a video file or a folder of images to sampled RGB frames with true times."""
