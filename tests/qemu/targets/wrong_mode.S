/* SPDX-License-Identifier: GPL-2.0-only */
/* A target image for tests: enters the kernel in 32-bit code, as if the last mode switch were missing. */
#define WRONG_MODE
#include "boot.S"
