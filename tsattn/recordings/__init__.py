"""From a hospital's files to windows: readers, checks, preparation, store, windows, splits, a simulator. No model."""
