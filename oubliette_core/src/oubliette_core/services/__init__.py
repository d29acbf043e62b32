"""What Oubliette knows and does about projects: their records, workspaces, containers, sessions and tokens.

Front ends reach the services through `oubliette_core.app.App`; the values they return are in
`oubliette_core.services.records`.
"""
