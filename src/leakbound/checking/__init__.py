"""A policy: which models, asked what, must be proven how harmless, before they may ship."""
