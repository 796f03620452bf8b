// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package client

import "os"

// lockFile does nothing where there is no flock: it is the caller who gives each client a directory of its own.
func lockFile(*os.File) error { return nil }
