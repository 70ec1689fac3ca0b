"""Windows of recordings: where they lie, their labels, and the batches that they come in."""
