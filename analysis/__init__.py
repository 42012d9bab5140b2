"""What a finished or running search found: reads its Parquet tables, draws and prints."""
