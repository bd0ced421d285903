/* SPDX-License-Identifier: GPL-2.0-only */
#define MAP_GIB 4
#include "wide.inc"
