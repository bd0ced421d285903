/* SPDX-License-Identifier: GPL-2.0-only */
#define MAP_GIB 512
#include "wide.inc"
