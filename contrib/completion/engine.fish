# Completion of qcow2fs for fish 3.4 and newer.
#
# The command of the line up to the cursor, and how many arguments and which pending option come before it: three lines.
# A line without a command is a mount; `none` as long as there is no word.
function __qcow2fs_scan
    set -l words (commandline -opc)
    set -e words[1]
    if not set -q words[1]
        printf '%s\n' none 0
        return
    end
    set -l command (__qcow2fs_command_named $words[1])
    if test -n "$command"
        set -e words[1]
    else
        set command mount
    end
    set -l count 0
    set -l pending ''
    set -l only_arguments ''
    for word in $words
        if test -n "$pending"
            set pending ''
        else if test -n "$only_arguments"; or not string match -q -- '-?*' $word
            set count (math $count + 1)
        else if test "$word" = --
            set only_arguments yes
        else if string match -q -- '--*' $word
            contains -- $word (__qcow2fs_valued $command); and set pending $word
        else
            # Of letters in one word the last may take the next word.
            contains -- -(string sub -s -1 -- $word) (__qcow2fs_valued $command); and set pending $word
        end
    end
    printf '%s\n' $command (math $count + 1)
end

# Whether the line is one of this command.
function __qcow2fs_is
    set -l scan (__qcow2fs_scan)
    test "$scan[1]" = $argv[1]
end

# Whether the word at the cursor is this argument of this command: COMMAND NUMBER.
function __qcow2fs_at
    set -l scan (__qcow2fs_scan)
    test "$scan" = "$argv"
end

# Whether there is no command yet and no word either that one could begin with: qcow2fs IMAGE MOUNTPOINT.
function __qcow2fs_needs_no_command
    __qcow2fs_at none 0; or return
    set -l typed (__qcow2fs_typed)
    test -n "$typed"; and not string match -q -- (string escape -n --style=regex -- $typed)'*' (__qcow2fs_commands)
end

# Whether the word at the cursor has a variable in it, which fish knows best.
function __qcow2fs_has_variable
    string match -q -- '*$*' (commandline -ct)
end

# What the word at the cursor means so far, of --option=value the value.
function __qcow2fs_typed
    set -l word (commandline -ct)
    # Some quotes are still open.
    for end in '' \' '"'
        set -l plain (string unescape -- $word$end 2>/dev/null); or continue
        set word $plain
        break
    end
    if not contains -- -- (commandline -opc)
        set word (string replace -r -- '^--[\w-]+=' '' $word)
    end
    printf '%s\n' $word
end

# Files, as fish completes them.
function __qcow2fs_files
    complete -C "__qcow2fs_no_such_command "(string escape -n -- $argv[1] | string replace -r -- '^\\\\~' '~')
end

# What an option or an argument can be: TEXT KIND WORD..., where the text is what was typed of it.
function __qcow2fs_value
    set -l text $argv[1]
    set -l words $argv[3..-1]
    switch $argv[2]
        case file
            __qcow2fs_files $text
        case directory
            string match -- '*/' (__qcow2fs_files $text)
        case image
            # Those that are called like images, then directories, then all others.
            set -l files (__qcow2fs_files $text)
            string match -r -- '^.*\.(?:qcow2|qcow2c|qcow|img)$' $files
            string match -- '*/' $files
            string join -- \n $files
        case words
            string join -- \n $words
        case words-or-file
            string join -- \n $words
            __qcow2fs_files $text
        case list
            set -l before (string replace -r -- '[^,]*$' '' $text)
            set -l given (string split , -- $before)
            for word in $words
                contains -- $word $given; or printf '%s\n' $before$word
            end
        case secret
            __qcow2fs_files $text
            __qcow2fs_secret_of_image $text
        case mount-options
            __qcow2fs_mount_options $text
        case mounted
            __qcow2fs_mounted $text
    end
end

# The same for the word at the cursor, without the description of the option, which the empty one replaces.
function __qcow2fs_propose
    string replace -r -- '^([^\t]*)$' '$1'\t (__qcow2fs_value (__qcow2fs_typed) $argv)
end

# IMAGE=FILE, the key of one image of a chain.
function __qcow2fs_secret_of_image
    set -l parts (string match -r -- '^([^=]*=)(.*)$' $argv[1]); or return 0
    printf '%s\t\n' $parts[2](__qcow2fs_files "$parts[3]")
end

# A list for -o. A comma behind a backslash belongs to a value.
function __qcow2fs_mount_options
    set -l parts (string match -r -- '^((?:(?:[^,\\\\]|\\\\.)*,)*)(.*)$' $argv[1])
    set -l before $parts[2]
    set -l item $parts[3]
    if set -l option (string match -r -- '^([^=]*)=(.*)$' $item)
        set -l kind (__qcow2fs_mount_kind (string replace -a _ - -- $option[2])); or return
        set -l values (__qcow2fs_value (string replace -a '\\,' , -- "$option[3]") (string split ' ' -- $kind))
        set values (string replace -r -- '\t.*' '' $values)
        printf '%s\n' "$before$option[2]="(string replace -a , '\\,' -- $values)
        return
    end
    set -l given (string split , -- $before)
    for line in (__qcow2fs_mount_words)
        set -l word (string split \t -- $line)
        contains -- $word[1] $given; and continue
        # allow_other is the same as allow-other.
        string match -q -- '*_*' $item; and set word[1] (string replace -a - _ -- $word[1])
        printf '%s\t%s\n' $before$word[1] $word[2]
    end
end

# Where disks are mounted now, below the directory that the word begins with.
function __qcow2fs_mounted
    set -l base ''
    set -l real ''
    if test -n "$argv[1]"; and not string match -q -- '/*' $argv[1]
        set base (string replace -r -- '[^/]*$' '' $argv[1])
        set real (realpath -- (string replace -r -- '^\./~/' $HOME/ ./$base) 2>/dev/null); or return
        set real (string trim -r -c / -- $real)/
    end
    for line in (string match -- '* - fuse.qcow2fs *' </proc/self/mountinfo 2>/dev/null)
        # As the kernel writes what would end a field or a line.
        set -l place (string split ' ' -- $line)[5]
        set place (printf '%b' (string replace -a -r -- '\\\\(\d{3})' '\\\\0$1' $place) | string collect)
        set -l start (string length -- "$real")
        test (string sub -l $start -- $place) = "$real"
        and printf '%s\tmounted disk\n' $base(string sub -s (math $start + 1) -- $place)
    end
end

# TABLES
