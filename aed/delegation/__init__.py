"""Credential kinds that travel with the work (krb5, x509, agent, ticket). None is built yet: the Authentication issue brings them."""
