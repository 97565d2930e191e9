// Each file of this folder binds one family of kernels: arrays in, arrays out, no decisions.
#pragma once

#include <nanobind/nanobind.h>

void bind_codec(nanobind::module_& m);
void bind_integers(nanobind::module_& m);
void bind_maps(nanobind::module_& m);
void bind_moments(nanobind::module_& m);
void bind_panels(nanobind::module_& m);
void bind_rows(nanobind::module_& m);
void bind_skipping(nanobind::module_& m);
