"""The page as values: what its answers, tables and charts say. Pure; how they look is the business of service.page."""
