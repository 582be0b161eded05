/* A directory as a poor volume shows it (Azure Files by SMB, an access point that squashes): a FUSE file system that
 * passes everything on, but has no hard links (EPERM), changes no modes (EPERM), and shows all files as those of
 * one uid. What it is mounted on stays the truth.
 *
 *   plain_fs -o source=DIRECTORY,uid=UID[,poor=1] MOUNTPOINT      poor: no renames that replace nothing either
 *
 * cc plain_fs.c -o plain_fs $(pkg-config --cflags --libs fuse3)
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct options {
  char *source;
  unsigned uid, poor;
} options = {NULL, 50000, 0};

#define REAL(path) char real[4096]; snprintf(real, sizeof real, "%s%s", options.source, path)
#define RESULT(call) ((call) < 0 ? -errno : 0)

static void squash(struct stat *found) {
  found->st_uid = options.uid;
  found->st_gid = options.uid;
  found->st_mode |= 0666 | (S_ISDIR(found->st_mode) ? 0111 : 0); /* As such mounts say: everybody may. */
}

static int get_attributes(const char *path, struct stat *found, struct fuse_file_info *file) {
  REAL(path);
  int done = file ? fstat((int)file->fh, found) : lstat(real, found);
  if (done < 0) return -errno;
  squash(found);
  return 0;
}
static int list(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *file,
                enum fuse_readdir_flags flags) {
  (void)offset, (void)file, (void)flags;
  REAL(path);
  DIR *directory = opendir(real);
  if (!directory) return -errno;
  for (struct dirent *entry; (entry = readdir(directory));) fill(buffer, entry->d_name, NULL, 0, 0);
  closedir(directory);
  return 0;
}
static int open_file(const char *path, struct fuse_file_info *file) {
  REAL(path);
  int fd = open(real, file->flags);
  if (fd < 0) return -errno;
  file->fh = (uint64_t)fd;
  return 0;
}
static int create_file(const char *path, mode_t mode, struct fuse_file_info *file) {
  REAL(path);
  int fd = open(real, file->flags | O_CREAT, mode | 0600);
  if (fd < 0) return -errno;
  file->fh = (uint64_t)fd;
  return 0;
}
static int release_file(const char *path, struct fuse_file_info *file) { (void)path; close((int)file->fh); return 0; }
static int read_file(const char *path, char *to, size_t size, off_t at, struct fuse_file_info *file) {
  (void)path;
  ssize_t got = pread((int)file->fh, to, size, at);
  return got < 0 ? -errno : (int)got;
}
static int write_file(const char *path, const char *from, size_t size, off_t at, struct fuse_file_info *file) {
  (void)path;
  ssize_t put = pwrite((int)file->fh, from, size, at);
  return put < 0 ? -errno : (int)put;
}
static int sync_file(const char *path, int data, struct fuse_file_info *file) { (void)path, (void)data; return RESULT(fsync((int)file->fh)); }
static int cut(const char *path, off_t size, struct fuse_file_info *file) {
  REAL(path);
  return RESULT(file ? ftruncate((int)file->fh, size) : truncate(real, size));
}
static int make_directory(const char *path, mode_t mode) { REAL(path); return RESULT(mkdir(real, mode | 0700)); }
static int remove_directory(const char *path) { REAL(path); return RESULT(rmdir(real)); }
static int remove_file(const char *path) { REAL(path); return RESULT(unlink(real)); }
static int make_symlink(const char *target, const char *path) { REAL(path); return RESULT(symlink(target, real)); }
static int read_symlink(const char *path, char *to, size_t size) {
  REAL(path);
  ssize_t length = readlink(real, to, size - 1);
  if (length < 0) return -errno;
  to[length] = 0;
  return 0;
}
static int rename_file(const char *from, const char *path, unsigned flags) {
  if (flags && options.poor) return -EINVAL;
  REAL(path);
  char old[4096];
  snprintf(old, sizeof old, "%s%s", options.source, from);
  return RESULT(syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, real, flags));
}
static int make_link(const char *from, const char *to) { (void)from, (void)to; return -EPERM; }
static int change_mode(const char *path, mode_t mode, struct fuse_file_info *file) { (void)path, (void)mode, (void)file; return -EPERM; }
static int change_owner(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *file) { (void)path, (void)uid, (void)gid, (void)file; return -EPERM; }
static int set_times(const char *path, const struct timespec times[2], struct fuse_file_info *file) {
  REAL(path);
  return RESULT(file ? futimens((int)file->fh, times) : utimensat(AT_FDCWD, real, times, AT_SYMLINK_NOFOLLOW));
}
static int lock_file(const char *path, struct fuse_file_info *file, int operation) { (void)path; return RESULT(flock((int)file->fh, operation)); }
static int space(const char *path, struct statvfs *found) { REAL(path); return RESULT(statvfs(real, found)); }

static const struct fuse_operations operations = {
    .getattr = get_attributes, .readdir = list, .open = open_file, .create = create_file, .release = release_file,
    .read = read_file, .write = write_file, .fsync = sync_file, .truncate = cut, .mkdir = make_directory,
    .rmdir = remove_directory, .unlink = remove_file, .symlink = make_symlink, .readlink = read_symlink,
    .rename = rename_file, .link = make_link, .chmod = change_mode, .chown = change_owner, .utimens = set_times,
    .flock = lock_file, .statfs = space,
};

int main(int count, char **words) {
  static const struct fuse_opt known[] = {
      {"source=%s", offsetof(struct options, source), 0}, {"uid=%u", offsetof(struct options, uid), 0},
      {"poor=%u", offsetof(struct options, poor), 0}, FUSE_OPT_END};
  struct fuse_args arguments = FUSE_ARGS_INIT(count, words);
  if (fuse_opt_parse(&arguments, &options, known, NULL) || !options.source) {
    fputs("plain_fs -o source=DIRECTORY,uid=UID MOUNTPOINT\n", stderr);
    return 2;
  }
  umask(0);
  return fuse_main(arguments.argc, arguments.argv, &operations, NULL);
}
