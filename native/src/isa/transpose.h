// Transposing float matrices four by four, with the compiler's own vectors: right on any machine, and shuffles on each.
// Included into an anonymous namespace, so that no instantiation is shared between instruction sets.

typedef float Four __attribute__((vector_size(16)));

// to[c * to_stride + r] = from[r * from_stride + c] for r, c < 4.
[[gnu::always_inline]] inline void transpose_four(const float* from, std::size_t from_stride, float* to,
                                                  std::size_t to_stride) {
  Four a, b, c, d;
  __builtin_memcpy(&a, from, sizeof a);
  __builtin_memcpy(&b, from + from_stride, sizeof b);
  __builtin_memcpy(&c, from + 2 * from_stride, sizeof c);
  __builtin_memcpy(&d, from + 3 * from_stride, sizeof d);
  const Four low = __builtin_shufflevector(a, b, 0, 4, 1, 5), high = __builtin_shufflevector(a, b, 2, 6, 3, 7),
             low2 = __builtin_shufflevector(c, d, 0, 4, 1, 5), high2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Four columns[] = {
      __builtin_shufflevector(low, low2, 0, 1, 4, 5), __builtin_shufflevector(low, low2, 2, 3, 6, 7),
      __builtin_shufflevector(high, high2, 0, 1, 4, 5), __builtin_shufflevector(high, high2, 2, 3, 6, 7)};
  __builtin_memcpy(to, &columns[0], sizeof a);
  __builtin_memcpy(to + to_stride, &columns[1], sizeof a);
  __builtin_memcpy(to + 2 * to_stride, &columns[2], sizeof a);
  __builtin_memcpy(to + 3 * to_stride, &columns[3], sizeof a);
}
