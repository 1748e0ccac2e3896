# Completes streamer in bash (3.2 or later). Written by: streamer completion bash
_streamer() {
  local IFS=$'\n'
  COMPREPLY=($(streamer complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1))
  # The value of a configuration key follows at once.
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
    compopt -o nospace 2>/dev/null
  fi
}
complete -o default -F _streamer streamer
