// Truth: ends at once with status 7, before a profiler has seen anything of it.
int main(void) { return 7; }
