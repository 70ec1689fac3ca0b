"""What at least two models use: attention, encoder layers, normalisation, patches, dropout."""
