"""The only door to disk: records and tables (records.py, tables.py), stages made of shards (stage.py)."""
