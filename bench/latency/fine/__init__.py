"""The fine stage: how long a question takes, beside transformers and beside what the device allows."""
