# shellcheck shell=bash
# Completion of qcow2fs for bash 4 and newer, with or without the package bash-completion.
#
# TABLES

# The words up to the cursor as the user sees them, raw, into the array `words`: bash splits them at = and :, too.
_qcow2fs_words() {
  local line=${COMP_LINE:0:COMP_POINT} part i
  words=()
  for ((i = 0; i <= COMP_CWORD; i++)); do
    part=${COMP_WORDS[i]}
    if ((i == 0)) || [[ $line == [[:blank:]]* ]]; then
      line=${line#"${line%%[![:blank:]]*}"}
      words+=('')
    fi
    # Of the word that the cursor is in only what is before it counts.
    [[ $line == "$part"* && $i -lt $COMP_CWORD ]] || part=$line
    line=${line:${#part}}
    words[${#words[@]} - 1]+=$part
  done
}

# Takes redirections out of `words`. Where the cursor is in the target of one, what is before the target in its word goes
# into `operator`.
_qcow2fs_skip_redirections() {
  local word target='' last=$((${#words[@]} - 1)) i
  local -a others=()
  operator=none
  for ((i = 0; i <= last; i++)); do
    word=${words[i]}
    if [[ $target ]]; then
      target=''
      ((i < last)) || operator=''
    elif [[ $word =~ ^([0-9]*|&)[\<\>][\<\>\&|]* ]]; then
      [[ $word != "${BASH_REMATCH[0]}" ]] || target=yes
      ((i < last)) || operator=${BASH_REMATCH[0]}
    else
      others+=("$word")
    fi
  done
  [[ $operator != none ]] || words=("${others[@]}")
}

# What a word means to the shell, quotes and backslashes undone, into `plain`.
_qcow2fs_unquote() {
  local text=$1 quote='' char i
  plain=''
  for ((i = 0; i < ${#text}; i++)); do
    char=${text:i:1}
    if [[ $quote == "'" ]]; then
      if [[ $char == "'" ]]; then quote=''; else plain+=$char; fi
    elif [[ $char == \\ && (-z $quote || ${text:i+1:1} == [\$\`\"\\]) ]]; then
      ((++i))
      plain+=${text:i:1}
    elif [[ $char == "$quote" && -n $quote ]]; then
      quote=''
    elif [[ -z $quote && $char == [\'\"] ]]; then
      quote=$char
    else
      plain+=$char
    fi
  done
}

# Adds to `found` those words that begin with the prefix and the text: PREFIX TEXT WORD...
_qcow2fs_add() {
  local prefix=$1 text=$2 word
  shift 2
  for word; do
    [[ $word != "$text"* ]] || found+=("$prefix$word")
  done
}

# Adds files to `found`: PREFIX TEXT KIND, where the kind is file, directory or image; images come first then.
_qcow2fs_add_files() {
  local prefix=$1 text=$2 kind=$3 start path shown old
  local -a first=() directories=() others=()
  is_file=yes
  # Variables are for readline to expand.
  [[ $text != *\$* ]] || compopt -o default 2>/dev/null
  case $text in
    \~/*) start=$HOME/${text#\~/} ;;
    *) start=$text ;;
  esac
  old=$(shopt -p nullglob dotglob nocaseglob failglob)
  shopt -s nullglob dotglob
  shopt -u nocaseglob failglob
  for path in "$start"*; do
    shown=$text${path#"$start"}
    [[ -z $in_list ]] || shown=${shown//,/\\,}
    shown=$prefix$shown
    case ${path##*/} in .. | .) continue ;; esac
    if [[ -d $path ]]; then directories+=("$shown/")
    elif [[ $kind == image && $path == *.@(qcow2|qcow2c|qcow|img) ]]; then first+=("$shown")
    elif [[ $kind != directory ]]; then others+=("$shown")
    fi
  done
  eval "$old"
  [[ $kind != image ]] || compopt -o nosort 2>/dev/null
  found+=("${first[@]}" "${directories[@]}" "${others[@]}")
}

# Adds the places where disks are mounted, below the directory that the text begins with.
_qcow2fs_add_mounted() {
  local text=$1 base='' real='' place rest
  case $text in
    '' | /*) ;;
    *)
      case $text in */*) base=${text%/*}/ ;; esac
      case $base in
        \~/*) real=$HOME/${base#\~/} ;;
        *) real=./$base ;;
      esac
      real=$(CDPATH='' cd -P -- "$real" 2>/dev/null && pwd) || return
      real=${real%/}/
      ;;
  esac
  while read -r _ _ _ _ place rest; do
    case $rest in *' - fuse.qcow2fs '*) ;; *) continue ;; esac
    # As the kernel writes what would end a field or a line.
    place=${place//\\040/ }
    place=${place//\\011/$'\t'}
    place=${place//\\012/$'\n'}
    place=${place//\\043/#}
    place=${place//\\134/\\}
    [[ $place != "$real"* ]] || _qcow2fs_add "$base" "${text#"$base"}" "${place#"$real"}"
  done 2>/dev/null </proc/self/mountinfo
}

# Words with commas between them, none twice: PREFIX TEXT WORD...
_qcow2fs_add_list() {
  local prefix=$1 text=$2 done='' word
  shift 2
  case $text in
    *,*)
      done=,${text%,*},
      prefix+=${text%,*},
      before=$prefix
      ;;
  esac
  for word; do
    [[ $done == *",$word,"* ]] || _qcow2fs_add "$prefix" "${text##*,}" "$word"
  done
}

# Words of -o, with commas between them: PREFIX TEXT. A comma behind a backslash belongs to a value.
_qcow2fs_add_mount_options() {
  local prefix=$1 item=${2##*,} head last name REPLY
  local -a candidates
  head=${2%"$item"}
  while [[ $head == *\\, ]]; do
    last=${head%,}
    last=${last##*,}
    head=${head%"$last,"}
    item=$last,$item
  done
  compopt -o nospace 2>/dev/null
  if [[ $item == *=* ]]; then
    name=${item%%=*}
    _qcow2fs_value -o "${name//_/-}" || return
    in_list=yes
    item=${item#*=}
    _qcow2fs_add_value "$prefix$head$name=" "${item//\\,/,}" "$REPLY"
  else
    candidates=("${_qcow2fs_mount_words[@]}")
    # allow_other is the same as allow-other.
    [[ $item != *_* ]] || candidates=("${candidates[@]//-/_}")
    before=$prefix$head
    for name in "${candidates[@]}"; do
      [[ ,$head == *",$name,"* ]] || _qcow2fs_add "$before" "$item" "$name"
    done
  fi
}

# What an option or argument can be: PREFIX TEXT KIND, where the kind may be followed by words.
_qcow2fs_add_value() {
  local prefix=$1 text=$2 kind=${3%% *}
  local -a list
  read -ra list <<<"${3#"$kind"}"
  case $kind in
    command) _qcow2fs_add "$prefix" "$text" "${_qcow2fs_commands[@]}" ;;
    words) _qcow2fs_add "$prefix" "$text" "${list[@]}" ;;
    list) _qcow2fs_add_list "$prefix" "$text" "${list[@]}" ;;
    mount-options) _qcow2fs_add_mount_options "$prefix" "$text" ;;
    mounted) _qcow2fs_add_mounted "$text" ;;
    words-or-file)
      _qcow2fs_add "$prefix" "$text" "${list[@]}"
      _qcow2fs_add_files "$prefix" "$text" file
      ;;
    secret)
      _qcow2fs_add_files "$prefix" "$text" file
      # The key of one image of a chain.
      [[ $text != *=* ]] || _qcow2fs_add_files "$prefix${text%%=*}=" "${text#*=}" file
      ;;
    file | directory | image) _qcow2fs_add_files "$prefix" "$text" "$kind" ;;
  esac
}

# Looks for the option of a word like -rfo whose value follows, in the word or behind it: COMMAND WORD. Sets `option`
# and `attached`.
_qcow2fs_short_option() {
  local i REPLY
  for ((i = 1; i < ${#2}; i++)); do
    option=-${2:i:1}
    attached=${2:i+1}
    ! _qcow2fs_value "$1" "$option" || return 0
  done
  return 1
}

# Fills `found` from `words`.
_qcow2fs_find() {
  local text=$1 last=$((${#words[@]} - 1)) command=mount option='' attached pending='' only_arguments='' count=0 i=1
  local plain REPLY
  if ((last == 1)); then
    if [[ $text == -* ]]; then
      _qcow2fs_options ''
      read -ra candidates <<<"$REPLY"
      _qcow2fs_add '' "$text" "${candidates[@]}"
    else
      _qcow2fs_add '' "$text" "${_qcow2fs_commands[@]}"
      # The short form: qcow2fs IMAGE MOUNTPOINT.
      ((${#found[@]} > 0)) || _qcow2fs_add_files '' "$text" image
    fi
    return
  fi
  if _qcow2fs_command "${words[1]}"; then
    command=$REPLY
    i=2
  fi
  for (( ; i < last; i++)); do
    _qcow2fs_unquote "${words[i]}"
    if [[ $pending ]]; then
      pending=''
    elif [[ $only_arguments || $plain != -?* ]]; then
      ((++count))
    elif [[ $plain == -- ]]; then
      only_arguments=yes
    elif [[ $plain == --* ]]; then
      ! _qcow2fs_value "$command" "$plain" || pending=$plain
    elif _qcow2fs_short_option "$command" "$plain" && [[ -z $attached ]]; then
      pending=$option
    fi
  done
  if [[ $pending ]]; then
    _qcow2fs_value "$command" "$pending"
    _qcow2fs_add_value '' "$text" "$REPLY"
  elif [[ $only_arguments || $text != -* ]]; then
    ! _qcow2fs_argument "$command" "$((count + 1))" || _qcow2fs_add_value '' "$text" "$REPLY"
  elif [[ $text == --*=* ]]; then
    ! _qcow2fs_value "$command" "${text%%=*}" || _qcow2fs_add_value "${text%%=*}=" "${text#*=}" "$REPLY"
  elif [[ $text != --* ]] && _qcow2fs_short_option "$command" "$text"; then
    _qcow2fs_value "$command" "$option"
    _qcow2fs_add_value "${text%"$attached"}" "$attached" "$REPLY"
  else
    _qcow2fs_options "$command"
    read -ra candidates <<<"$REPLY"
    _qcow2fs_add '' "$text" "${candidates[@]}"
  fi
}

_qcow2fs() {
  local raw plain kept operator quote='' word is_file='' in_list='' before=''
  local -a words found=() candidates
  COMPREPLY=()
  _qcow2fs_words
  raw=${words[${#words[@]} - 1]}
  # What readline leaves as it is: up to = or : in most cases.
  kept=${raw%"$2"}
  _qcow2fs_unquote "$raw"
  _qcow2fs_skip_redirections
  if [[ $operator == none ]]; then
    _qcow2fs_find "$plain"
  else
    _qcow2fs_add_files "$operator" "${plain#"$operator"}" file
  fi
  _qcow2fs_unquote "$kept"
  found=("${found[@]#"$plain"}")
  [[ $kept != *[\'\"] ]] || quote=${kept:${#kept}-1}
  # Readline quotes names of files, and sees what is a directory, if nothing is before or between them.
  if [[ $is_file ]]; then
    for word in "${found[@]}"; do
      word=${word/#\~\//$HOME/}
      [[ -e $word || -L $word ]] || is_file=''
    done
  fi
  if [[ $is_file ]]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY=("${found[@]%/}")
    return
  fi
  # After a second Tab they are only shown: without quotes, and without what comes before in a list.
  if [[ $COMP_TYPE == 63 && ${#found[@]} -gt 1 ]]; then
    COMPREPLY=("${found[@]#"$before"}")
    return
  fi
  for word in "${found[@]}"; do
    if [[ $quote == '"' ]]; then
      word=${word//\\/\\\\}
      word=${word//\"/\\\"}
      word=${word//\$/\\\$}
      word=${word//\`/\\\`}
    elif [[ -z $quote ]]; then
      printf -v word %q "$word"
      # Commas mean something only within braces.
      word=${word//\\,/,}
      word=${word/#\\\~\//\~/}
    fi
    COMPREPLY+=("$word")
  done
  # A place to go on from: a directory, or an option whose value is to follow.
  [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *[/=] ]] || compopt -o nospace 2>/dev/null
}

complete -F _qcow2fs qcow2fs
