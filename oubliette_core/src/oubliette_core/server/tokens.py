"""Tools for access tokens."""

from __future__ import annotations

from datetime import timedelta

from oubliette_core.server.arguments import NoArguments, TokenCreation, TokenReference
from oubliette_core.server.results import TokenListing, TokenMade, TokenRevoked, TokenView
from oubliette_core.server.toolbox import Access, Call, Effect, tool
from oubliette_core.services.ids import now


@tool(title="Create an access token", access=Access.ABOVE, effect=Effect.CHANGES)
def token_create(call: Call, arguments: TokenCreation) -> TokenMade:
    """Make an access token for this server. Its secret is in the result, and shown only once."""
    days = arguments.expires_in_days
    expires = None if days is None else now() + timedelta(days=days)
    return TokenMade.of(call.app.tokens.create(arguments.name, arguments.scopes, expires_at=expires))


@tool(title="List access tokens", access=Access.ABOVE)
def token_list(call: Call, arguments: NoArguments) -> TokenListing:  # noqa: ARG001 - it takes none
    """List the access tokens, without their secrets."""
    return TokenListing(tokens=[TokenView.of(token) for token in call.app.tokens.list()])


@tool(title="Revoke an access token", access=Access.ABOVE, effect=Effect.DESTROYS)
def token_revoke(call: Call, arguments: TokenReference) -> TokenRevoked:
    """Delete an access token; whoever uses it is refused from now on."""
    return TokenRevoked(token=TokenView.of(call.app.tokens.revoke(arguments.token)))


TOOLS = (token_create, token_list, token_revoke)
