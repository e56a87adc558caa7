"""aeclient: the user's side. Import `aeclient.api` for the Python interface of a master."""
