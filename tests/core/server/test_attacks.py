"""What an attacker may try at the server and what is behind it, and the tests that show the safe outcome.

The table is looked up in the tests: what it names has to be there.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]

ATTACKS: dict[str, tuple[str, ...]] = {
    # -- Ids, names and paths
    "an id with dots and slashes names another thing of the engine's": (
        "core/server/test_schemas.py::test_what_is_no_project_never_reaches_the_engine",
        "core/test_guard.py::test_container_ids_are_matched_against_a_whitelist",
    ),
    "an id is an option of a command line": (
        "core/server/test_schemas.py::test_what_is_no_project_never_reaches_the_engine",
        "core/services/test_projects.py::test_what_cannot_be_a_project_is_refused",
    ),
    "an id is empty, too short, too long, a number, a list": (
        "core/server/test_schemas.py::test_a_wrong_argument_is_named",
        "core/server/test_schemas.py::test_what_is_no_id_of_a_token_or_command_is_refused",
    ),
    "two projects have ids that begin alike": (
        "core/services/test_policy.py::test_projects_whose_ids_begin_alike_have_containers_of_their_own",
        "core/server/test_access.py::test_a_beginning_that_fits_several_names_none_that_is_out_of_reach",
    ),
    "names differ in letter case alone, or mean something to a shell, a terminal or a file system": (
        "core/services/test_projects.py::test_a_name_is_taken_in_any_letter_case",
        "core/services/test_projects.py::test_names_are_safe_everywhere",
        "core/services/test_tokens.py::test_names_are_one_printable_line",
    ),
    "a working directory leads out of the container": (
        "core/server/test_schemas.py::test_what_could_lead_out_of_the_container_is_refused",
    ),
    "a workspace or a project's directory is a link to elsewhere": (
        "core/services/test_workspace.py::test_a_workspace_that_is_something_else_is_refused",
        "core/services/test_workspace.py::test_links_inside_are_not_followed",
        "core/services/test_projects.py::test_a_project_directory_that_is_a_link_is_only_unlinked",
        "core/services/test_workspace.py::test_all_is_given_to_the_containers_user_and_nothing_outside",
    ),
    # -- Arguments
    "an image is named that is not configured, in this machine's network or as an option": (
        "core/server/test_schemas.py::test_an_unknown_type_is_refused_with_those_that_there_are",
    ),
    "a command is a text for a shell on the host": (
        "core/server/test_schemas.py::test_a_wrong_argument_is_named",
        "core/test_guest.py::test_arguments_arrive_as_they_are",
    ),
    "a variable has a name or value that is none, or a user is a command": (
        "core/server/test_schemas.py::test_what_could_lead_out_of_the_container_is_refused",
    ),
    "an argument is misspelt, of another type, or out of bounds": (
        "core/server/test_schemas.py::test_an_unknown_argument_is_refused",
        "core/server/test_schemas.py::test_every_argument_has_bounds",
        "core/server/test_schemas.py::test_a_wrong_argument_is_named",
    ),
    "a URL makes git run a program or read a file, or carries somebody's password": (
        "core/server/test_schemas.py::test_only_repositories_elsewhere_are_cloned",
        "core/services/test_clone.py::test_everything_else_is_refused",
        "core/services/test_clone.py::test_git_itself_refuses_other_protocols",
    ),
    "a repository's host is handed a token that is not for it": (
        "core/services/test_clone.py::test_the_github_token_is_for_github_alone_and_never_an_argument",
    ),
    "a secret is given where it is repeated": (
        "core/server/test_schemas.py::test_wrong_values_are_not_repeated",
        "core/server/test_logs.py::test_nothing_that_is_secret_is_in_any_log_of_a_server",
    ),
    "a command prints without end, or what looks like instructions": (
        "core/server/test_tools.py::test_a_command_gets_what_it_was_given",
        "core/server/test_tools.py::test_people_read_the_ending_and_the_output",
    ),
    # -- Hosts and origins
    "a web page sends requests under its own name": (
        "core/server/test_http.py::test_a_foreign_host_is_refused_everywhere",
        "core/server/test_http.py::test_a_foreign_origin_is_refused",
    ),
    "the same where every address is listened on": (
        "core/server/test_http.py::test_host_and_origin_are_checked_on_every_bind",
    ),
    "tokens are read on the network": (
        "core/server/test_http.py::test_a_network_is_not_listened_on_without_tls",
        "core/server/test_cli.py::test_a_network_is_not_listened_on_without_tls",
    ),
    # -- Tokens
    "no token, an empty one, one of another kind or server, a huge one": (
        "core/server/test_http.py::test_without_a_valid_token_there_is_no_way_in",
        "core/server/test_http.py::test_a_header_of_a_megabyte_is_refused",
    ),
    "an expired or revoked token": (
        "core/server/test_http.py::test_an_expired_token_and_one_of_another_home_are_refused",
        "core/server/test_http.py::test_a_token_that_is_revoked_is_refused_at_once",
    ),
    "a token is guessed by the time that a refusal takes": (
        "core/services/test_tokens.py::test_secrets_are_compared_in_constant_time_also_when_there_is_no_such_token",
    ),
    "the database is read": (
        "core/services/test_tokens.py::test_the_secret_has_256_bits_and_is_kept_nowhere",
        "core/config/test_home.py::test_all_of_a_home_is_private_whatever_the_umask",
    ),
    "a session's id is used by another token": (
        "core/server/test_http.py::test_a_session_belongs_to_the_token_that_opened_it",
    ),
    "sessions are guessed": ("core/server/test_http.py::test_guessed_sessions_are_not_found_and_guessing_has_a_rate",),
    "a token for reading changes something, or one of a project reaches another": (
        "core/server/test_access.py::test_a_token_reaches_what_its_scope_says_and_nothing_else",
        "core/server/test_access.py::test_the_table_has_every_tool",
        "core/server/test_access.py::test_lists_show_what_the_token_may_see",
        "core/server/test_access.py::test_a_refresh_of_a_type_needs_a_token_for_all_projects",
    ),
    "a refusal tells that another project exists": (
        "core/server/test_access.py::test_another_project_looks_like_a_missing_one",
    ),
    "metrics tell what others do": ("core/server/test_http.py::test_health_is_for_all_and_metrics_for_administrators",),
    # -- Too much, twice, and half
    "a body of 20 MB, one that comes a byte at a time, or that is no request": (
        "core/server/test_http.py::test_a_body_of_20_megabytes_is_refused",
        "core/server/test_http.py::test_a_body_that_does_not_come_is_not_waited_for",
        "core/server/test_http.py::test_what_is_no_request_is_refused",
    ),
    "connections on which nothing comes": (
        "core/server/test_http.py::test_a_header_that_does_not_come_is_not_waited_for",
    ),
    "thousands of sessions": ("core/server/test_http.py::test_a_token_has_so_many_sessions",),
    "thousands of requests": ("core/server/test_http.py::test_a_token_has_a_rate",),
    "more long calls than there are threads": (
        "core/server/test_http.py::test_commands_that_sleep_leave_light_calls_as_fast_as_before",
        "core/server/test_background.py::test_there_is_a_limit_of_commands_at_a_time",
    ),
    "a call that changes something is repeated after a timeout": (
        "core/server/test_http.py::test_a_call_that_is_repeated_after_a_timeout_makes_nothing_twice",
        "core/server/test_tools.py::test_to_create_a_project_again_makes_no_second_one",
    ),
    "a refresh is cancelled half-way": (
        "core/server/test_http.py::test_a_refresh_that_is_cancelled_leaves_the_old_container",
    ),
    "a connection drops while a command runs": (
        "core/server/test_http.py::test_a_connection_that_drops_takes_its_command_along_in_the_era_of_single_requests",
        "core/server/test_http.py::test_a_connection_that_drops_is_no_cancel_in_the_era_of_sessions",
        "e2e/test_mcp.py::test_a_connection_that_drops_takes_its_command_along",
    ),
    # -- What is told
    "a bug's text has paths and secrets in it": ("core/server/test_tools.py::test_a_bug_is_masked",),
    "a name with line breaks forges a record of the log": (
        "core/server/test_logs.py::test_a_record_is_one_line_whatever_is_in_it",
    ),
    "others read the logs, or the client's file with a token in it": (
        "core/server/test_logs.py::test_files_are_private_whatever_the_umask",
        "core/server/test_cli.py::test_a_token_is_made_for_a_client_over_http_and_kept_from_others",
    ),
}


def _tests_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_a_test(attack: str) -> None:
    """The tests that the table names are there: one that was renamed or dropped fails here."""
    named = [test.split("::") for test in ATTACKS[attack]]

    assert named
    assert [] == [name for file, name in named if name not in _tests_in(TESTS / file)]
