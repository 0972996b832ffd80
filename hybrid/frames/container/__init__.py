"""From a file to packets: opening a container, and what it states besides its packets."""
