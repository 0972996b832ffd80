"""One file for each decoder of video files, and one for folders of images."""
