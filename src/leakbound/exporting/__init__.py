"""Audits in the formats of others."""
