# Completes streamer in fish. Written by: streamer completion fish
function __streamer_complete
    set --local words (commandline --tokenize --cut-at-cursor --current-process)
    streamer complete -- $words[2..-1] (commandline --current-token --cut-at-cursor | string collect --allow-empty) 2>/dev/null
end
complete --command streamer --no-files --condition 'test -n "$(__streamer_complete)"' --arguments '(__streamer_complete)'
complete --command streamer --force-files --condition 'test -z "$(__streamer_complete)"'
