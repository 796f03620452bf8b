// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package textfile

import "os"

// keepOwner does nothing: a new file inherits its access list from the directory.
func keepOwner(*os.File, os.FileInfo) error { return nil }

// syncDir does nothing: directories cannot be synced here.
func syncDir(string) error { return nil }
