// Truth: main > each<N> (a template with a lambda) > Derived::work (virtual) > leaf<unsigned long>; all in namespace shapes.
#include "burn.h"
#include <memory>
#include <vector>

namespace shapes {

template <typename T> FRAME T leaf(T rounds) { return spin(rounds); }

struct Base {
    virtual ~Base() = default;
    virtual uint64_t work(uint64_t rounds) const = 0;
};

struct Derived final : Base {
    FRAME uint64_t work(uint64_t rounds) const override {
        uint64_t x = leaf<uint64_t>(rounds);
        NO_TAIL_CALL();
        return x + 1;
    }
};

template <int N, typename F> FRAME uint64_t each(F &&function) {
    uint64_t x = 0;
    for (int i = 0; i < N; i++) x += function(i);
    return x;
}

} // namespace shapes

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    std::vector<std::unique_ptr<shapes::Base>> bases;
    for (int i = 0; i < 4; i++) bases.push_back(std::make_unique<shapes::Derived>());
    ready();
    while (!passed(end)) sum += shapes::each<4>([&](int i) { return bases[i]->work(TURN); });
    return sum == 42;
}
