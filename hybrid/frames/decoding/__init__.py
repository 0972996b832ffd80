"""From packets to pictures: decoding stretches on several threads, and RGB as shown."""
