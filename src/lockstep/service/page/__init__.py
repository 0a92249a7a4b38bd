"""The page for those who do not log in to Prefect: gathered, composed, drawn, rendered and written."""
