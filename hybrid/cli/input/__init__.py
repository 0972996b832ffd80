"""What the command line reads: videos and folders that arguments name, and files of questions and answers."""
