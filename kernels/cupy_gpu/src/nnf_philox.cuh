// Philox4x32-10 (Salmon et al., SC 2011): which counter is whose stands in `kernels/reference/philox.py`.
#pragma once
#include "nnf_common.cuh"

constexpr unsigned SEARCH_STREAM = 0xffffffffu;  // counter word 1 of random search

struct Words {
    unsigned w[4];
};

__device__ inline Words philox(unsigned long long key, unsigned c0, unsigned c1, unsigned c2, unsigned c3) {
    unsigned k0 = unsigned(key), k1 = unsigned(key >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned left = __umulhi(0xD2511F53u, c0), low_left = 0xD2511F53u * c0;
        const unsigned right = __umulhi(0xCD9E8D57u, c2), low_right = 0xCD9E8D57u * c2;
        c0 = right ^ c1 ^ k0;
        c2 = left ^ c3 ^ k1;
        c1 = low_right;
        c3 = low_left;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

// The words of elements 4·block … 4·block + 3 of a stream.
__device__ inline Words stream(index key, unsigned lane, index step, index block) {
    return philox(key, unsigned(block), lane, unsigned(step), unsigned(step >> 32));
}
