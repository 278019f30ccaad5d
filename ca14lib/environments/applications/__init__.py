"""Environments of the applications: real or realistic problems with the constraints of deployment."""
