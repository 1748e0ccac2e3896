#compdef streamer
# Completes streamer in zsh. Written by: streamer completion zsh
_streamer() {
  local line
  local -a plain assigned
  for line in "${(@f)$(streamer complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -n $line ]] || continue
    local word=${${line%%$'\t'*}//:/\\:} help=${line#*$'\t'}
    if [[ $word == *= ]]; then
      assigned+=("$word:$help") # its value follows at once
    else
      plain+=("$word:$help")
    fi
  done
  if (( ! $#plain && ! $#assigned )); then
    _files
    return
  fi
  local failed=1
  (( $#plain )) && _describe streamer plain && failed=0
  (( $#assigned )) && _describe 'configuration key' assigned -S '' && failed=0
  return failed
}
if [[ $funcstack[1] == _streamer ]]; then
  _streamer "$@" # loaded from $fpath
else
  compdef _streamer streamer
fi
