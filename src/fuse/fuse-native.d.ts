/** The part of fuse-native 2.2 that the libfuse transport uses; the package has no types of its own. */
declare module 'fuse-native' {
  type Callback<T extends unknown[] = []> = (errno: number, ...results: T) => void;

  interface Stat {
    mode: number;
    uid: number;
    gid: number;
    size: number;
    nlink: number;
    ino: number;
    blksize: number;
    blocks: number;
    atime: Date;
    mtime: Date;
    ctime: Date;
  }

  interface Operations {
    getattr(path: string, done: Callback<[Stat?]>): void;
    fgetattr(path: string, fd: number, done: Callback<[Stat?]>): void;
    readdir(path: string, done: Callback<[string[]?, Stat[]?]>): void;
    open(path: string, flags: number, done: Callback<[number?]>): void;
    /** `done` takes the bytes read, or a negative errno. */
    read(
      path: string,
      fd: number,
      buffer: Buffer,
      length: number,
      offset: number,
      done: Callback<[number?]>,
    ): void;
    /** `done` takes the bytes written, or a negative errno. */
    write(
      path: string,
      fd: number,
      buffer: Buffer,
      length: number,
      offset: number,
      done: Callback<[number?]>,
    ): void;
    truncate(path: string, size: number, done: Callback): void;
    ftruncate(path: string, fd: number, size: number, done: Callback): void;
    release(path: string, fd: number, done: Callback): void;
    flush(path: string, fd: number, done: Callback): void;
    fsync(path: string, dataOnly: boolean, fd: number, done: Callback): void;
    /** Milliseconds since 1970. */
    utimens(path: string, atime: number, mtime: number, done: Callback): void;
    mknod(path: string, mode: number, device: number, done: Callback): void;
    create(path: string, mode: number, done: Callback): void;
    mkdir(path: string, mode: number, done: Callback): void;
    symlink(target: string, path: string, done: Callback): void;
    link(from: string, to: string, done: Callback): void;
    rename(from: string, to: string, done: Callback): void;
    unlink(path: string, done: Callback): void;
    rmdir(path: string, done: Callback): void;
    chmod(path: string, mode: number, done: Callback): void;
    chown(path: string, uid: number, gid: number, done: Callback): void;
    statfs(path: string, done: Callback<[Record<string, number>?]>): void;
  }

  class Fuse {
    constructor(mountpoint: string, operations: Partial<Operations>, options?: Record<string, unknown>);
    /** Gives the `-o` argument for libfuse. */
    _fuseOptions(): string;
    mount(done: (error: Error | null) => void): void;
    unmount(done: (error: Error | null) => void): void;
  }

  export = Fuse;
}
