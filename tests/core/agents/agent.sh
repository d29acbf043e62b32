#!/bin/sh
# An agent for tests. It speaks the Agent Client Protocol with nothing but a shell, so every image and every engine can
# run it. What a message says is what it does: the first word chooses.

say() { printf '%s\n' "$1"; }
reply() { say "{\"jsonrpc\":\"2.0\",\"id\":$1,\"result\":$2}"; }
update() { say "{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"sessionId\":\"$session\",\"update\":$1}}"; }
chunk() { update "{\"sessionUpdate\":\"agent_message_chunk\",\"content\":{\"type\":\"text\",\"text\":\"$1\"}}"; }
think() { update "{\"sessionUpdate\":\"agent_thought_chunk\",\"content\":{\"type\":\"text\",\"text\":\"$1\"}}"; }
call() { update "{\"sessionUpdate\":\"tool_call\",\"toolCallId\":\"$1\",\"title\":\"$2\",\"kind\":\"$3\",\"status\":\"pending\"}"; }
step() { update "{\"sessionUpdate\":\"tool_call_update\",\"toolCallId\":\"$1\",\"status\":\"$2\"}"; }
done_with() { reply "$turn" "{\"stopReason\":\"$1\",\"usage\":{\"totalTokens\":12,\"inputTokens\":7,\"outputTokens\":5}}"; turn=; }
ask() {
    call tool "$2" "$1"
    say "{\"jsonrpc\":\"2.0\",\"id\":\"ask\",\"method\":\"session/request_permission\",\"params\":{\"sessionId\":\"$session\",\"toolCall\":{\"toolCallId\":\"tool\",\"title\":\"$2\",\"kind\":\"$1\",\"rawInput\":{\"command\":\"$2\"}},\"options\":[{\"optionId\":\"always\",\"name\":\"Always\",\"kind\":\"allow_always\"},{\"optionId\":\"once\",\"name\":\"Once\",\"kind\":\"allow_once\"},{\"optionId\":\"no\",\"name\":\"No\",\"kind\":\"reject_once\"}]}}"
}
answered() {
    case $1 in
    *'"optionId":"no"'*) step tool failed; chunk 'Then not.' ;;
    *'"optionId":'*) step tool in_progress; : >/workspace/asked; step tool completed; chunk 'It is done.' ;;
    *) chunk 'Nobody answered.'; [ -z "$turn" ] || done_with cancelled; return ;;
    esac
    done_with end_turn
}
flood() {
    number=1
    while [ "$number" -le "$1" ]; do
        step "call-$number" in_progress
        chunk "$number "
        number=$((number + 2))
    done
}
prompt() {
    echo "$text" >>"$HOME/agent-$session"
    # shellcheck disable=SC2086 # words are what it is about
    set -- $text
    case $1 in
    ask) ask execute 'rm -rf build'; return ;;
    edit) ask edit 'main.c'; return ;;
    hang) chunk 'Hanging.'; return ;;
    stubborn) chunk 'I do not listen.'; while :; do sleep 1; done ;;
    crash) chunk 'Watch this.'; echo 'it broke: no such thing' >&2; exit 3 ;;
    child) (setsid sleep 4321 >/dev/null 2>&1 </dev/null &); chunk 'It lives.' ;;
    flood) flood "$2" ;;
    secret) half=${TEST_KEY%??????}; chunk "The key is $half"; chunk "${TEST_KEY#"$half"}, whole: $TEST_KEY."; echo "$TEST_KEY" >&2 ;;
    variable) eval "chunk \"$2=\$$2\"" ;;
    length) eval "chunk \"\${#$2}\"" ;;
    where) chunk "$(cat /etc/generation 2>/dev/null) $(pwd)" ;;
    count) read -r first <"$HOME/agent-$session"; chunk "First you said: $first." ;;
    plan) update '{"sessionUpdate":"plan","entries":[{"content":"Think","priority":"high","status":"completed"},{"content":"Act","priority":"low","status":"pending"}]}' ;;
    usage) update '{"sessionUpdate":"usage_update","used":10,"size":1000,"cost":{"amount":0.5,"currency":"USD"}}' ;;
    refuse) say "{\"jsonrpc\":\"2.0\",\"id\":$turn,\"error\":{\"code\":-32603,\"message\":\"Internal error\",\"data\":{\"details\":\"the model is on strike\"}}}"; return ;;
    noise) echo 'no message at all'; echo '[1, 2]'; echo '{"id": {}, "result": 1}'; say '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"x","update":{"sessionUpdate":"unheard_of"}}}'; chunk 'Never mind.' ;;
    *) think 'Easy.'; call t1 'Look around' read; step t1 completed; chunk 'You '; chunk "said: $text." ;;
    esac
    done_with end_turn
}

echo "${AGENT_GREETING-agent for tests}" >&2
[ -z "$AGENT_DIES" ] || exit "$AGENT_DIES"
turn=
while IFS= read -r line; do
    id=${line#*\"id\":}
    id=${id%%,*}
    case $line in
    *'"method":"initialize"'*)
        reply "$id" "{\"protocolVersion\":1,\"agentCapabilities\":{\"loadSession\":${AGENT_LOADS-true}},\"agentInfo\":{\"name\":\"test\",\"version\":\"1\"},\"authMethods\":[{\"id\":\"key\",\"name\":\"Key\",\"type\":\"env_var\",\"vars\":[{\"name\":\"TEST_KEY\"}]}]}" ;;
    *'"method":"authenticate"'*) allowed=1; reply "$id" '{}' ;;
    *'"method":"session/new"'*)
        if [ -n "$AGENT_LOCKED" ] && [ -z "$allowed" ]; then
            say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{\"code\":-32000,\"message\":\"Authentication required\"}}"
        else
            number=1
            while [ -e "$HOME/agent-s-$number" ]; do number=$((number + 1)); done
            session=s-$number
            : >"$HOME/agent-$session"
            reply "$id" "{\"sessionId\":\"$session\",\"configOptions\":[{\"id\":\"llm\",\"name\":\"Model\",\"category\":\"model\",\"type\":\"select\",\"currentValue\":\"a/one\",\"options\":[{\"value\":\"a/one\",\"name\":\"One\"},{\"value\":\"a/two\",\"name\":\"Two\"}]}]}"
        fi ;;
    *'"method":"session/set_config_option"'*)
        value=${line#*\"value\":\"}; model=${value%%\"*}; export model
        reply "$id" '{"configOptions":[]}' ;;
    *'"method":"session/load"'*)
        session=${line#*\"sessionId\":\"}; session=${session%%\"*}
        if [ -e "$HOME/agent-$session" ]; then
            chunk 'What was said before.'
            reply "$id" '{}'
        else
            say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{\"code\":-32602,\"message\":\"Invalid params\"}}"
        fi ;;
    *'"method":"session/prompt"'*)
        turn=$id; text=${line#*\"text\":\"}; text=${text%%\"*}
        prompt ;;
    *'"method":"session/cancel"'*) [ -z "$turn" ] || [ "${text%% *}" = ask ] || done_with cancelled ;;
    *'"id":"ask"'*) answered "$line" ;;
    esac
done
echo 'good bye' >&2
