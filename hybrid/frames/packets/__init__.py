"""From packets to a plan: what each packet is, when it is shown, and which ones must be decoded."""
