"""Commands on events: score, export."""
