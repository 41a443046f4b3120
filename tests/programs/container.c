// Starts a program as a container's runtime does: in a root of its own that holds nothing but what lies in a folder. To be run in
// new PID, mount, UTS and cgroup namespaces, and mostly a new user namespace (`unshare`), as their first process.
//
//     container FOLDER PROGRAM ARGUMENTS…
//
// The root is read-only. In it, /proc is mounted if the folder has one, /tmp is memory if it has one, and /out stays writable.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(2);
    }
}

static int exists(const char *path) {
    struct stat found;
    return stat(path, &found) == 0;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
    must(mount(argv[1], argv[1], NULL, MS_BIND, NULL), "bind the root");
    must(chdir(argv[1]), "enter the root");
    if (exists("proc")) must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount /proc");
    if (exists("tmp")) must(mount("tmp", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, NULL), "mount /tmp");
    if (exists("out")) must(mount("out", "out", NULL, MS_BIND, NULL), "bind /out");
    must(mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), "read-only root");
    must((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "leave the old root");
    must(chdir("/"), "/");
    must(sethostname("container", 9), "sethostname");
    pid_t child = fork();
    must(child, "fork");
    if (child == 0) {
        execv(argv[2], argv + 2);
        must(-1, argv[2]);
    }
    // The first process of a PID namespace reaps the others.
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
