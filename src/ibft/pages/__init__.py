"""The report stage: one page that says which model to ship."""
