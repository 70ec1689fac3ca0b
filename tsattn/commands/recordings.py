"""Commands on recordings: inspect, prepare, simulate, split."""
