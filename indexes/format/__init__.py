"""What the files of an archive hold and how they are named: manifests, timelines, lists. No vectors."""
