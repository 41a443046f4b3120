// A large program with debug information and deep stacks, as compilers and interpreters have them: some hundred distinct functions that
// call each other by virtual calls, each of which calls into containers that are inlined.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

struct Node {
    virtual ~Node() = default;
    virtual unsigned evaluate(unsigned depth, unsigned seed) = 0;
};

static std::vector<std::unique_ptr<Node>> nodes;

template <int N> struct Operation : Node {
    std::map<unsigned, std::vector<unsigned>> seen;
    std::unordered_map<std::string, unsigned> names;

    unsigned evaluate(unsigned depth, unsigned seed) override {
        std::vector<unsigned> &values = seen[seed % (16 + N % 7)];
        values.push_back(seed * (2 * N + 1));
        if (values.size() > 24) {
            std::sort(values.begin(), values.end(), [](unsigned a, unsigned b) { return (a ^ N) < (b ^ N); });
            values.resize(4);
        }
        names["name" + std::to_string(seed % (11 + N % 5))] += values.back();
        unsigned next = seed * 1664525 + 1013904223 + N;
        if (depth > 0) next += nodes[next % nodes.size()]->evaluate(depth - 1, next);
        // Not a tail call, and not the same for any two of them.
        return next ^ (names.size() << (N % 13));
    }
};

template <int N> void make() {
    nodes.push_back(std::make_unique<Operation<N>>());
    if constexpr (N > 0) make<N - 1>();
}

int main(int, char **arguments) {
    make<400>();
    auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(std::atoi(arguments[1]));
    unsigned sum = 0;
    for (unsigned seed = 1; std::chrono::steady_clock::now() < end; seed++) sum += nodes[seed % nodes.size()]->evaluate(60 + seed % 60, seed);
    std::printf("%u\n", sum);
}
