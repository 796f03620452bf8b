// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package loadtest

import "time"

// ownCPU is not known here, and left out of the report.
func ownCPU() time.Duration { return 0 }
