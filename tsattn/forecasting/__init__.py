"""The analyst's door: a labelled table in, a labelled forecast out, and what the network looked at."""
