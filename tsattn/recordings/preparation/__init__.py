"""Preparation: planned, streamed, resumable; from recordings to a store."""
