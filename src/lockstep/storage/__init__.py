"""The S3 edge: the bucket, streams into it, and the backups that lie there."""
