"""One more entry for each registry, each in one file: worked examples that the tests register and use end to end."""
