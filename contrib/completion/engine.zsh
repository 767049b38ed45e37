#compdef qcow2fs
# Completion of qcow2fs for zsh.
#
# TABLES

_qcow2fs_commands() {
  local -a lines
  lines=("${(@)_qcow2fs_summaries}")
  _describe -t commands command lines
}

# Files that are called like images, then all others: groups of their own keep this order.
_qcow2fs_images() {
  local suffix='*.(qcow2|qcow2c|qcow|img)' ret=1
  local -a expl
  _description files expl image
  _path_files -V images "${(@)expl}" -g "$suffix(-.)" && ret=0
  _path_files -V others "${(@)expl}" -g "*~$suffix *.(qcow2|qcow2c|qcow|img)(^-.)" && ret=0
  return ret
}

_qcow2fs_words_or_file() {
  local ret=1
  _wanted words expl word compadd -- "$@" && ret=0
  _files && ret=0
  return ret
}

# FILE, or IMAGE=FILE for one image of a chain.
_qcow2fs_secret() {
  local ret=1 files=_files
  # _arguments passes options for compadd.
  [[ $1 != _* ]] || files=$1
  $files && ret=0
  compset -P '*=' && $files && ret=0
  return ret
}

# Words of -o, with commas between them; a comma behind a backslash belongs to a value.
_qcow2fs_mount_options() {
  local item name
  local -a given flags valued
  compset -P '(*[^\\],|,)'
  if [[ $PREFIX == *=* ]]; then
    name=${${PREFIX%%=*}//_/-}
    compset -P 1 '*='
    _qcow2fs_mount_value $name
    return
  fi
  given=(${(s:,:)IPREFIX})
  for item in "${(@)_qcow2fs_mount_flags}"; do
    (( ${given[(Ie)${item%%:*}]} )) || flags+=("$item")
  done
  valued=("${(@)_qcow2fs_mount_valued}")
  _describe -t mount-options 'option of mount' flags -qS , -- valued -qS =
}

# Files in a list, where a comma of a name gets a backslash; with -/ directories alone.
_qcow2fs_files_in_list() {
  local typed start expl name item ret=1
  local -a found directories others
  typed=${${(Q)PREFIX}//\\,/,}
  start=${(b)${typed/#\~\//$HOME/}}
  if [[ $1 == -/ ]]; then found=(${~start}*(N-/)); else found=(${~start}*(N)); fi
  if [[ ${(j: :)found} != *,* ]]; then
    _files "$@"
    return
  fi
  start=${(Q)start}
  for name in "${(@)found}"; do
    item=$typed${name#"$start"}
    item=${item//,/\\,}
    if [[ -d $name ]]; then directories+=("$item"); else others+=("$item"); fi
  done
  _wanted files expl file compadd -a others && ret=0
  _wanted directories expl directory compadd -qS / -a directories && ret=0
  return ret
}

# Where disks are mounted now, below the directory that the word begins with.
_qcow2fs_mounted() {
  local base='' real='' place line expl
  local -a fields places
  if [[ -n $PREFIX && $PREFIX != /* ]]; then
    compset -P '*/' && base=$IPREFIX
    real=${${(Q)base}/#\~\//$HOME/}
    real=${${real:-.}:A}
    real=${real%/}/
  fi
  while IFS= read -r line; do
    [[ $line == *' - fuse.qcow2fs '* ]] || continue
    fields=(${(s: :)line})
    # As the kernel writes what would end a field or a line.
    place=${fields[5]//\\040/ }
    place=${place//\\011/$'\t'}
    place=${place//\\012/$'\n'}
    place=${place//\\043/#}
    place=${place//\\134/\\}
    [[ $place == "$real"?* ]] && places+=("${place#"$real"}")
  done 2>/dev/null </proc/self/mountinfo
  _wanted mountpoints expl 'mounted disk' compadd -a places
}

_qcow2fs() {
  local curcontext=$curcontext command
  local -a specs
  typeset -A opt_args
  if (( CURRENT == 2 )); then
    _qcow2fs_specs ''
    if [[ $PREFIX == -* ]]; then
      _arguments -S : "${(@)specs}"
    else
      # Without a command: qcow2fs IMAGE MOUNTPOINT.
      _qcow2fs_commands || _qcow2fs_images
    fi
    return
  fi
  command=${(Q)words[2]}
  if _qcow2fs_specs "$command"; then
    shift words
    (( CURRENT-- ))
    curcontext=${curcontext%:*}-$command:
  else
    _qcow2fs_specs mount
  fi
  _arguments -s -S : "${(@)specs}"
}

if [[ $funcstack[1] == _qcow2fs ]]; then
  _qcow2fs "$@"
else
  compdef _qcow2fs qcow2fs
fi
