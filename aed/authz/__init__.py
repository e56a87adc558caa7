"""From identity to account to group: identity map, account checks, group stores, and reading a user's own files safely."""
