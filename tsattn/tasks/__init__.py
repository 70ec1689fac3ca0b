"""What is learned: loss, metrics, optimiser, schedule, statistics (LightningModules)."""
