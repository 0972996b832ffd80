"""From a file to packets: opening a container, and what it says beside its packets."""
