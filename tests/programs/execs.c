// Truth: becomes the program that its arguments name, at once: the process keeps its PID and changes everything else.
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc > 1) execvp(argv[1], argv + 1);
    return 127;
}
