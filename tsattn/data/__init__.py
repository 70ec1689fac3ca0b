"""From bytes to windows: registry and download, tables, calendar marks, windows, Lightning data modules."""
