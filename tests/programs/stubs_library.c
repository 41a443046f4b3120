// The shared object of stubs.c.
int tick(int x) { return x + 1; }
int tock(int x) { return x + 2; }
