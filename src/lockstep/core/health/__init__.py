"""Pure: what the numbers of a database mean for its health. Rows of the catalog in, findings out."""
