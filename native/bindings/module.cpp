// The Python module regrain._native. Only regrain.kernels imports it.
#include "bind.h"

NB_MODULE(_native, m) {
  m.doc() = "regrain's compiled kernels; use regrain.kernels";
  bind_codec(m);
  bind_integers(m);
  bind_maps(m);
  bind_moments(m);
  bind_panels(m);
  bind_rows(m);
  bind_skipping(m);
}
