"""Files that other programs, other versions or nobody in particular may have written. Knows only hybrid.errors."""
