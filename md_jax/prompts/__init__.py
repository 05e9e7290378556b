"""What a sentence says: words, views, actions and the checks of a run's prompts; nothing heavy is imported here."""
