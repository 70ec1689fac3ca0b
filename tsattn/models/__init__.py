"""One paper per file; no file imports another."""
