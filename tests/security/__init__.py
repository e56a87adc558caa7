"""What an attacker would try, asked of a real daemon (SECURITY review): each test is an attack that once worked, or must never."""
