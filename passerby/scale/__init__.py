"""The same computations mapped over the workers of a Ray cluster; nothing else imports Ray."""
