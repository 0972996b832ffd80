"""From a question to an answer: search, the fine stage, selection."""
