"""What `manage.py rootspan` does."""
