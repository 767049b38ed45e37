/** Shells that complete a line as they do for a user: bash and zsh on a terminal of their own, fish by `complete -C`. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from './qcow2fs.js';

export interface Completed {
  /** Whole words as they would reach the program; a directory without its slash, `name=` without its `=`. */
  readonly candidates: readonly string[];
  /** The line after one press of Tab; undefined where it is not known. */
  readonly line: string | undefined;
  /** What was written to standard error meanwhile. */
  readonly errors: string;
  /** All that the terminal showed, if there is one. */
  readonly shown: string;
}

export interface Shell {
  /** @param line up to the cursor, after which Tab is pressed; it may hold a Tab itself */
  complete(line: string): Promise<Completed>;
  close(): Promise<void>;
}

export const COMPLETIONS = path.join(ROOT, 'dist', 'completion');

/** Tab, and Control-X l, to which the shells are told to answer with their line. */
const TAB_AND_TELL = '\t\x18l';
const READY = '<<ready>>';
const TOLD = '<<told>>';

const BASH_START = `
bind 'set bell-style none'
bind 'set enable-bracketed-paste off'
set +H
PS1='${READY}'
watched() {
  local item plain raw options
  local -a words
  _qcow2fs "$@" 2>>"$REPORT/errors"
  options=$(compopt)
  _qcow2fs_words
  raw=\${words[\${#words[@]}-1]}
  for item in "\${COMPREPLY[@]}"; do
    if [[ $options != *'-o filenames'* ]]; then _qcow2fs_unquote "$item"; item=$plain; fi
    _qcow2fs_unquote "\${raw%"$2"}"
    printf '%s\\0' "$plain$item" >>"$REPORT/candidates"
  done
}
complete -F watched qcow2fs
tell() {
  printf %s "$READLINE_LINE" >"$REPORT/line"
  READLINE_LINE='' READLINE_POINT=0
  printf '%s\\n' '${TOLD}'
}
bind -x '"\\C-xl": tell'
`;

const ZSH_START = `
fpath=($COMPLETIONS $fpath)
autoload -Uz compinit && compinit -D -u
setopt nobanghist nobeep
unsetopt autolist
PS1='${READY}'
watched() { _qcow2fs "$@" 2>>$REPORT/errors }
autoload -Uz _qcow2fs
compdef watched qcow2fs
compadd() {
  # Some calls only look for what matches.
  if [[ \${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]]; then
    builtin compadd "$@"
    return
  fi
  local -a hits
  local -A prefix
  builtin compadd -A hits "$@"
  () { zparseopts -E -A prefix p: P: } "$@"
  (( ! $#hits )) || printf '%s\\0' "\${(@)\${(@Q)hits}/#/\${(Q)IPREFIX}\${prefix[-P]}\${(Q)prefix[-p]}}" >>$REPORT/candidates
  builtin compadd "$@"
}
tell() {
  print -rn -- "$BUFFER" >$REPORT/line
  BUFFER=''
  print -r -- '${TOLD}' >$TTY
}
zle -N tell
bindkey '^I' complete-word '^Xl' tell
`;

/** @param withPackage load bash-completion first, as most systems do */
export function startBash(dir: string, cwd: string, withPackage: boolean): Promise<Shell> {
  const start = path.join(dir, 'start.bash');
  const loads = withPackage ? '. /usr/share/bash-completion/bash_completion\n' : '';
  fs.writeFileSync(start, `${loads}. ${COMPLETIONS}/qcow2fs.bash\n${BASH_START}`);
  return Terminal.start(dir, cwd, `exec bash --noprofile --rcfile ${start} -i`);
}

export function startZsh(dir: string, cwd: string): Promise<Shell> {
  fs.writeFileSync(path.join(dir, '.zshrc'), ZSH_START);
  return Terminal.start(dir, cwd, `ZDOTDIR=${dir} exec zsh -d -i`);
}

export function startFish(dir: string, cwd: string): Promise<Shell> {
  const script = `source ${COMPLETIONS}/qcow2fs.fish; complete -C $argv[1]`;
  const env = { ...process.env, HOME: dir, XDG_CONFIG_HOME: dir, XDG_DATA_HOME: dir };
  const complete = async (line: string): Promise<Completed> => {
    const result = spawnSync('fish', ['--no-config', '-c', script, line], {
      cwd,
      env,
      encoding: 'utf8',
      timeout: 60_000,
    });
    if (result.error) throw result.error;
    const words = result.stdout.split('\n').map((shown) => shown.split('\t')[0]!);
    return { candidates: asWords(words), line: undefined, errors: result.stderr, shown: '' };
  };
  return Promise.resolve({ complete, close: async () => {} });
}

function asWords(candidates: readonly string[]): string[] {
  const words = candidates.filter((word) => word !== '').map((word) => word.replace(/(?<=.)[/=]$/, ''));
  return [...new Set(words)];
}

class Terminal implements Shell {
  readonly #dir: string;
  readonly #child: ChildProcess;
  #output = '';
  #wake = (): void => {};
  #ended = false;
  #answers = true;

  private constructor(dir: string, child: ChildProcess) {
    this.#dir = dir;
    this.#child = child;
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
      this.#wake();
    });
    child.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
    process.once('exit', () => child.kill());
  }

  /** The lines of a terminal hold nothing back and echo nothing until the shell itself does. */
  static async start(dir: string, cwd: string, command: string): Promise<Terminal> {
    const { PATH } = process.env;
    const env = { PATH, HOME: dir, TERM: 'xterm', LC_ALL: 'C.UTF-8', REPORT: dir, COMPLETIONS };
    const script = ['-qefc', `stty -icanon -echo cols 200 rows 100; ${command}`, '/dev/null'];
    const terminal = new Terminal(
      dir,
      spawn('script', script, { cwd, env, stdio: ['pipe', 'pipe', 'ignore'] }),
    );
    await terminal.#shown(READY);
    return terminal;
  }

  async complete(line: string): Promise<Completed> {
    for (const name of ['candidates', 'errors', 'line'])
      fs.rmSync(path.join(this.#dir, name), { force: true });
    this.#output = '';
    this.#answers = false;
    this.#child.stdin!.write(line + TAB_AND_TELL);
    await this.#shown(TOLD);
    this.#answers = true;
    return {
      candidates: asWords(this.#reported('candidates').split('\0')),
      line: this.#reported('line'),
      errors: this.#reported('errors'),
      shown: this.#output,
    };
  }

  async close(): Promise<void> {
    if (this.#answers) this.#child.stdin!.write('exit\r');
    else this.#child.kill('SIGKILL');
    while (!this.#ended) await this.#news();
  }

  #reported(name: string): string {
    const file = path.join(this.#dir, name);
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  }

  async #shown(text: string): Promise<void> {
    while (!this.#output.includes(text)) {
      if (this.#ended) throw new Error(`the shell ended: ${this.#output}`);
      await this.#news();
    }
  }

  #news(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
