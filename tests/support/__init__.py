"""What tests and the benchmark share: waiting, accounts, an installed prefix, a real node. No test lives here."""
