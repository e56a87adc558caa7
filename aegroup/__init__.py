"""aegroup: the group manager's command."""
